//! The library's tests, one small file for each behaviour.

mod accounting;
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
mod workloads;
