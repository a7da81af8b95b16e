//! Pages of memory from the operating system: the only system calls of this part of the library.
//!
//! Miri has no system: there they come from the global allocator, and are always accessible.

#[cfg(miri)]
pub use self::without_system::{close, map, open, populate, unmap};
#[cfg(not(miri))]
pub use system::{close, map, open, populate, unmap};

/// What may be done with new pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everything.
    Open,
    /// Nothing, until they are opened: they are addresses only.
    Closed,
}

#[cfg(not(miri))]
mod system {
    use std::io;
    use std::ptr::{self, NonNull};

    use rustix::io::Errno;
    use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

    use super::Access;

    /// Maps zeroed pages, whose addresses are exposed.
    pub fn map(bytes: usize, access: Access) -> io::Result<NonNull<u8>> {
        let prot = match access {
            Access::Open => ProtFlags::READ | ProtFlags::WRITE,
            Access::Closed => ProtFlags::empty(),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the system's choice disturbs nothing.
        let base = unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, prot, flags) }?;
        base.expose_provenance();
        Ok(NonNull::new(base.cast()).expect("the system maps nothing at address 0"))
    }

    /// Gives back what [`map`] gave.
    ///
    /// # Safety
    /// `base` and `bytes` are those of a mapping that nobody uses any more.
    pub unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise. A failure leaves the pages mapped, which harms nobody.
        let _ = unsafe { mm::munmap(base.as_ptr().cast(), bytes) };
    }

    /// Makes all pages present, if the system knows how to.
    ///
    /// # Safety
    /// The pages are mapped and open.
    pub unsafe fn populate(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
        // SAFETY: populating pages does not change what they hold.
        match unsafe { mm::madvise(base.as_ptr().cast(), bytes, Advice::LinuxPopulateWrite) } {
            // Kernels before 5.14 do not know the advice.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes pages accessible.
    ///
    /// # Safety
    /// The pages are mapped.
    pub unsafe fn open(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the caller's promise.
        Ok(unsafe { mm::mprotect(base.as_ptr().cast(), bytes, access) }?)
    }

    /// Makes pages inaccessible and forgets what they hold: they are zero when they are opened again.
    ///
    /// # Safety
    /// The pages are mapped and nobody uses what is in them any more.
    pub unsafe fn close(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
        let base = base.as_ptr().cast();
        // SAFETY: the caller's promise.
        unsafe {
            mm::madvise(base, bytes, Advice::LinuxDontNeed)?;
            Ok(mm::mprotect(base, bytes, MprotectFlags::empty())?)
        }
    }
}

#[cfg(miri)]
mod without_system {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    use super::Access;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 4096).expect("a size below the address space's")
    }

    pub fn map(bytes: usize, _: Access) -> io::Result<NonNull<u8>> {
        assert!(bytes > 0, "the system maps no piece of 0 bytes either");
        // SAFETY: the size is not 0.
        let base = unsafe { alloc_zeroed(layout(bytes)) };
        base.expose_provenance();
        NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    pub unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise: `map` allocated it with this layout.
        unsafe { dealloc(base.as_ptr(), layout(bytes)) }
    }

    pub unsafe fn populate(_: NonNull<u8>, _: usize) -> io::Result<()> {
        Ok(())
    }

    pub unsafe fn open(_: NonNull<u8>, _: usize) -> io::Result<()> {
        Ok(())
    }

    pub unsafe fn close(base: NonNull<u8>, bytes: usize) -> io::Result<()> {
        // SAFETY: the caller's promise: the memory is there, and nobody uses it.
        unsafe { base.write_bytes(0, bytes) };
        Ok(())
    }
}
