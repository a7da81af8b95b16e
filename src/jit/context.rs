//! The memory that compiled code and the host share. Compiled code gets its address as the first
//! argument of every function.

use std::ffi::c_void;

use crate::heap::{AllocationBuffer, WORD};
use crate::stack::Activation;

/// Shared state, laid out as compiled code expects it.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    /// What compiled code allocates from.
    pub buffer: AllocationBuffer,
    /// The newest activation, or null.
    pub activation: *const Activation,
    /// The table of globals.
    pub globals: *mut usize,
    /// The host functions that exit trampolines call, by number.
    pub host_functions: *const *const c_void,
    /// The lowest stack pointer from which exit trampolines call the host.
    pub stack_limit: usize,
    /// How many objects compiled code allocated. Counted only by code compiled to count.
    pub allocated_objects: u64,
    /// The [`crate::Mutator`] that entered compiled code last.
    pub mutator: *mut c_void,
}

/// A field's offset from the context, as an instruction takes it.
macro_rules! offset {
    ($type:ty, $($field:tt)+) => { ::std::mem::offset_of!($type, $($field)+) as i32 };
}
pub(super) use offset;

/// The offset of the free list for objects of `bytes` bytes.
pub(super) fn free_list_offset(bytes: usize) -> i32 {
    offset!(Context, buffer.free_lists) + (bytes / WORD * WORD) as i32
}
