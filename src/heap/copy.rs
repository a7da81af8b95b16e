//! Moving the words of an object.

use std::ptr;

use super::WORD;

/// Copies an object's words. Most objects are a few, for which a few overlapping moves of two words
/// beat a loop, and anything beats a call of `memcpy`.
///
/// # Safety
/// `bytes` is a multiple of eight, at least eight; that many can be read at `from` and written at
/// `to`, and the two pieces do not overlap.
#[inline(always)]
pub unsafe fn copy_words(from: usize, to: usize, bytes: usize) {
    type Pair = [u64; 2];
    const PAIR: usize = size_of::<Pair>();
    let from = ptr::with_exposed_provenance::<u8>(from);
    let to = ptr::with_exposed_provenance_mut::<u8>(to);
    // SAFETY: the caller's promise; every access below stays within `bytes` of both.
    unsafe {
        let copy_pair = |at| to.add(at).cast::<Pair>().write(from.add(at).cast::<Pair>().read());
        match bytes {
            WORD => to.cast::<u64>().write(from.cast::<u64>().read()),
            16..=32 => {
                copy_pair(0);
                copy_pair(bytes - PAIR);
            }
            33..=64 => {
                copy_pair(0);
                copy_pair(PAIR);
                copy_pair(bytes - 2 * PAIR);
                copy_pair(bytes - PAIR);
            }
            _ => ptr::copy_nonoverlapping(from, to, bytes),
        }
    }
}
