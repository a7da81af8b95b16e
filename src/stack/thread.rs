//! A stack of stated size to run deep recursion on.

use std::{io, panic, thread};

/// Runs `body` on a new thread whose stack has `bytes` bytes, waits for it, and gives its result.
/// The pages are the system's until they are touched. A panic in `body` goes on in the caller.
///
/// # Errors
/// If the system has no such stack.
pub fn with_stack<T: Send>(bytes: usize, body: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(bytes).spawn_scoped(scope, body)?;
        Ok(thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}
