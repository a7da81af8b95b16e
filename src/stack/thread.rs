//! The stack that compiled code runs on: how far it may go, and one of stated size for deep recursion.

use std::ops::Range;
use std::{io, mem, panic, ptr, thread};

/// What a stack must have left for compiled code to call the host, in bytes: for slow paths and host
/// functions. Compiled code itself may go on to the stack's end.
pub const STACK_RESERVE: usize = 256 << 10;

/// Runs `body` on a new thread whose stack has `bytes` bytes and [`STACK_RESERVE`], waits for it, and
/// gives its result. The pages are the system's until they are touched. A panic in `body` goes on in
/// the caller.
///
/// # Errors
/// If the system has no such stack.
pub fn with_stack<T: Send>(bytes: usize, body: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(bytes.saturating_add(STACK_RESERVE));
        let thread = builder.spawn_scoped(scope, body)?;
        Ok(thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// The addresses of this thread's stack, the guard pages at its end not included.
pub(crate) fn stack_bounds() -> Range<usize> {
    // SAFETY: the attributes are initialised by the first call, read by the next, and destroyed; the
    // thread is the one that runs.
    unsafe {
        let mut attributes = mem::zeroed::<libc::pthread_attr_t>();
        let (mut start, mut bytes, mut guard) = (ptr::null_mut(), 0, 0);
        let got = libc::pthread_getattr_np(libc::pthread_self(), &mut attributes);
        assert_eq!(got, 0, "the system knows the bounds of its threads' stacks");
        libc::pthread_attr_getstack(&attributes, &mut start, &mut bytes);
        libc::pthread_attr_getguardsize(&attributes, &mut guard);
        libc::pthread_attr_destroy(&mut attributes);
        start.addr() + guard..start.addr() + bytes
    }
}
