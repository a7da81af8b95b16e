//! The library's tests, one small file for each behaviour.

mod abrupt_exits;
mod accounting;
mod calls;
mod debug_modes;
mod endless_crawl;
mod frames;
mod globals;
mod handles;
mod heap_full;
mod heap_size;
mod inline_allocation;
mod layouts;
mod map_table;
mod mark_stack;
mod missed_roots;
mod modules;
mod nested_activations;
mod registers;
mod reset;
mod roots;
mod support;
mod traps;
mod upstream;
mod wide_values;
mod workloads;
