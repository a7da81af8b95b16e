//! The first word of every object, and all the tricks played with its bits.
//!
//! ```text
//!   63            40 39     32 31           8 7     3 2  1  0
//!  +----------------+---------+--------------+-------+----+---+
//!  | reference bits |  words  |   layout id  |   -   | 00 | 1 |  Record, at most 24 payload words
//!  +----------------+---------+--------------+-------+----+---+
//!  |          length          |   layout id  |   3   | 01 | 1 |  References: an array of them
//!  +--------------------------+--------------+-------+----+---+
//!  |          length          |   layout id  | log2  | 10 | 1 |  Scalars: elements of 2^log2 bytes
//!  +--------------------------+--------------+-------+----+---+
//!  |          0               |   layout id  |   -   | 11 | 1 |  Table: a record described by `Layouts`
//!  +--------------------------+--------------+-------+----+---+
//!  |             address of the copy         |  000           |  forwarding pointer
//!  +-----------------------------------------+----------------+
//! ```
//!
//! Bit 0 tells a header from a forwarding pointer (invariant I6), and from the link of a free cell.
//! The size and the references of all objects but the largest records are read from the header
//! alone, without a load from a table.

use std::{hint, ptr};

use super::{GcRef, LayoutId, Layouts, Slot, WORD};

/// The most payload words (eight bytes each) that a header can describe by itself.
pub const INLINE_WORDS: u32 = 24;
/// The most elements that an array can have.
pub const MAX_LENGTH: u64 = u32::MAX as u64;
/// The number of layouts that a header can tell apart.
pub const MAX_LAYOUTS: usize = 1 << 24;

const IS_HEADER: u64 = 1;
const SHAPE_SHIFT: u32 = 1;
const LOG2_SHIFT: u32 = 3;
const LAYOUT_SHIFT: u32 = 8;
const WORDS_SHIFT: u32 = 32;
const LENGTH_SHIFT: u32 = 32;
const REFERENCES_SHIFT: u32 = 40;

const RECORD: u64 = 0;
const REFERENCES: u64 = 1;
const SCALARS: u64 = 2;
const TABLE: u64 = 3;

/// A header word: what the object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Header(u64);

/// What the first word of an object says: what it is, or where it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderWord {
    /// The object is here.
    Header(Header),
    /// The object was copied in this cycle; this is the copy.
    Forwarded(GcRef),
}

impl Header {
    fn common_bits(shape: u64, layout: LayoutId) -> u64 {
        IS_HEADER | shape << SHAPE_SHIFT | u64::from(layout.index()) << LAYOUT_SHIFT
    }

    /// A record of at most [`INLINE_WORDS`] payload words; bit `i` of `references` is set if
    /// payload word `i` holds a reference.
    pub(super) fn record(layout: LayoutId, words: u32, references: u32) -> Self {
        debug_assert!(words <= INLINE_WORDS && u64::from(references) < 1 << words);
        Self(
            Self::common_bits(RECORD, layout)
                | u64::from(words) << WORDS_SHIFT
                | u64::from(references) << REFERENCES_SHIFT,
        )
    }

    /// A record whose size and references only its layout tells.
    pub(super) fn table(layout: LayoutId) -> Self {
        Self(Self::common_bits(TABLE, layout))
    }

    /// An array of references, of length 0.
    pub(super) fn references(layout: LayoutId) -> Self {
        Self(Self::common_bits(REFERENCES, layout) | 3 << LOG2_SHIFT)
    }

    /// An array of scalars of `1 << log2` bytes each, of length 0.
    pub(super) fn scalars(layout: LayoutId, log2: u32) -> Self {
        Self(Self::common_bits(SCALARS, layout) | u64::from(log2) << LOG2_SHIFT)
    }

    /// This array's header with another length.
    pub fn with_length(self, length: u32) -> Self {
        debug_assert!(self.is_array());
        Self(self.0 & u64::from(u32::MAX) | u64::from(length) << LENGTH_SHIFT)
    }

    /// The header as compiled code stores it.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The header that `bits` are, or `None` if they are no header.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits & IS_HEADER != 0).then_some(Self(bits))
    }

    #[inline(always)]
    fn shape(self) -> u64 {
        self.0 >> SHAPE_SHIFT & 0b11
    }

    /// The number of bits that an array's length is shifted by in its header.
    pub const fn length_shift() -> u32 {
        LENGTH_SHIFT
    }

    /// Whether the object is an array.
    pub fn is_array(self) -> bool {
        matches!(self.shape(), REFERENCES | SCALARS)
    }

    /// Whether the object is an array of scalars of one byte.
    pub fn is_byte_array(self) -> bool {
        self.shape() == SCALARS && self.0 >> LOG2_SHIFT & 0b111 == 0
    }

    /// The size of an array's elements in bytes, and whether they are references.
    pub(super) fn elements(self) -> (u32, bool) {
        (1 << (self.0 >> LOG2_SHIFT & 0b111), self.shape() == REFERENCES)
    }

    /// The number of elements of an array.
    #[inline(always)]
    pub fn length(self) -> usize {
        (self.0 >> LENGTH_SHIFT) as usize
    }

    /// The layout that the object was allocated with.
    #[inline(always)]
    pub fn layout(self) -> LayoutId {
        LayoutId::new((self.0 as u32) >> LAYOUT_SHIFT)
    }

    #[inline(always)]
    fn is_record(self) -> bool {
        self.shape() == RECORD
    }

    /// The object's size in bytes, header included: a multiple of eight.
    #[inline(always)]
    pub fn bytes(self, layouts: &Layouts) -> usize {
        if self.is_record() { self.record_bytes() } else { self.array_or_table_bytes(layouts) }
    }

    #[inline(always)]
    fn record_bytes(self) -> usize {
        WORD + (self.0 >> WORDS_SHIFT & 0xff) as usize * WORD
    }

    /// Out of the way of the records, which are nearly all objects.
    #[inline(never)]
    fn array_or_table_bytes(self, layouts: &Layouts) -> usize {
        if self.shape() == TABLE {
            return layouts.record_bytes(self.layout());
        }
        let payload = self.length() << (self.0 >> LOG2_SHIFT & 0b111);
        WORD + payload.next_multiple_of(WORD)
    }

    /// Calls `visit` on each slot of `object`, in address order; the object's size in bytes.
    ///
    /// # Safety
    /// `object` is an object with this header and of a layout in `layouts`, readable and writable
    /// over its whole size.
    #[inline(always)]
    pub unsafe fn visit_slots(
        self,
        object: GcRef,
        layouts: &Layouts,
        mut visit: impl FnMut(Slot),
    ) -> usize {
        let payload = object.address() + WORD;
        // SAFETY: the offsets come from the object's own header or layout, so they lie inside it.
        let mut visit_word = |index: usize| visit(unsafe { Slot::at(payload + index * WORD) });
        if self.is_record() {
            let mut references = self.0 >> REFERENCES_SHIFT;
            while references != 0 {
                visit_word(references.trailing_zeros() as usize);
                references &= references - 1;
            }
            return self.record_bytes();
        }
        hint::cold_path();
        if self.shape() == REFERENCES {
            (0..self.length()).for_each(visit_word);
        } else if self.shape() == TABLE {
            let words = layouts.record_references(self.layout());
            words.iter().for_each(|&word| visit_word(word as usize));
        }
        self.array_or_table_bytes(layouts)
    }

    /// Makes this the header of the object at `object`.
    ///
    /// # Safety
    /// `object` is the address of a writable word.
    #[inline(always)]
    pub unsafe fn write(self, object: GcRef) {
        // SAFETY: the caller's promise.
        unsafe { word(object).write(self.0) }
    }
}

/// The header of an object that has not been forwarded.
///
/// # Safety
/// `object` refers to such an object.
#[inline(always)]
pub unsafe fn of(object: GcRef) -> Header {
    // SAFETY: the caller's promise.
    let bits = unsafe { word(object).read() };
    debug_assert!(bits & IS_HEADER != 0, "{object:?} starts with {bits:#x}, which is no header");
    Header(bits)
}

/// Reads an object's first word.
///
/// # Safety
/// `object` refers to an object, or to one that was forwarded in this cycle.
#[inline(always)]
pub unsafe fn read(object: GcRef) -> HeaderWord {
    // SAFETY: the caller's promise.
    let bits = unsafe { word(object).read() };
    match Header::from_bits(bits) {
        Some(header) => HeaderWord::Header(header),
        // SAFETY: I6: a first word without the header bit is the address of the copy.
        None => HeaderWord::Forwarded(unsafe { GcRef::at(bits as usize) }),
    }
}

/// Replaces the header of `object` by a forwarding pointer to `copy`.
///
/// # Safety
/// `object` refers to an object that has been copied to `copy`.
#[inline(always)]
pub unsafe fn forward(object: GcRef, copy: GcRef) {
    // SAFETY: the caller's promise.
    unsafe { word(object).write(copy.address() as u64) }
}

#[inline(always)]
fn word(object: GcRef) -> *mut u64 {
    ptr::with_exposed_provenance_mut(object.address())
}
