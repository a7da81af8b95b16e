//! The library's tests, one small file for each behaviour.

mod abrupt_exits;
mod accounting;
mod debug_modes;
mod endless_crawl;
mod globals;
mod heap_full;
mod heap_size;
mod inline_allocation;
mod layouts;
mod map_table;
mod mark_stack;
mod modules;
mod nested_activations;
mod reset;
mod roots;
mod support;
mod upstream;
mod wide_values;
mod workloads;
