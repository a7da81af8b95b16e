//! What an object looks like: records of named fields, arrays of references or of scalars.
//!
//! ```
//! use tospace::heap::{Layouts, Record};
//!
//! let mut node = Record::new("node");
//! let left = node.reference("left");
//! let key = node.scalar("key", 4)?;
//! let mut layouts = Layouts::default();
//! let node = layouts.record(node)?;
//! assert_eq!((left.offset(), key.offset()), (8, 16));
//! assert_eq!(layouts.record_bytes(node), 24);
//! # Ok::<(), tospace::heap::LayoutError>(())
//! ```
//!
//! A layout never changes once it is registered (invariant I7): compiled code has its offsets built
//! in, and objects of that layout may exist.

use std::ops::Range;

use thiserror::Error;

use super::{Header, WORD, header};

/// The largest record, header included.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// A registered layout's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LayoutId(u32);

impl LayoutId {
    pub(super) fn new(index: u32) -> Self {
        Self(index)
    }

    pub(super) fn index(self) -> u32 {
        self.0
    }
}

/// A registered array layout.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ArrayLayout {
    pub(crate) id: LayoutId,
    /// The size of an element in bytes: 1, 2, 4, 8, or 16.
    pub(crate) element_bytes: u32,
    pub(crate) holds_references: bool,
}

impl ArrayLayout {
    /// The layout's number.
    pub fn id(self) -> LayoutId {
        self.id
    }
}

/// A field of a record that holds a reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RefField(u32);

/// A field of a record that holds anything but a reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Field {
    offset: u32,
    bytes: u32,
}

impl RefField {
    /// The field's offset in bytes from the object's address.
    pub fn offset(self) -> u32 {
        self.0
    }
}

impl Field {
    /// The field's offset in bytes from the object's address.
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// The field's size in bytes.
    pub fn bytes(self) -> u32 {
        self.bytes
    }
}

/// A layout that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LayoutError {
    /// A scalar's size is not one that a machine load has.
    #[error("`{layout}.{field}`: a scalar has 1, 2, 4, 8 or 16 bytes, not {bytes}")]
    ScalarSize {
        /// The layout's name.
        layout: String,
        /// The field's name, or `[]` for an array's element.
        field: String,
        /// The size asked for.
        bytes: u32,
    },
    /// A field cannot be there.
    #[error(
        "`{layout}.{field}` at {offset}: fields begin at 8, behind the header, and this one lies at a \
         multiple of {align}"
    )]
    Offset {
        /// The layout's name.
        layout: String,
        /// The field's name.
        field: String,
        /// Where it should be, in bytes from the object's address.
        offset: u32,
        /// What that should be a multiple of.
        align: u32,
    },
    /// Two fields share a byte.
    #[error("`{layout}.{first}` and `{layout}.{second}` overlap")]
    Overlap {
        /// The layout's name.
        layout: String,
        /// The field that begins first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A record is larger than [`MAX_RECORD_BYTES`].
    #[error("record `{layout}` has {bytes} bytes; the most is {MAX_RECORD_BYTES}")]
    RecordSize {
        /// The layout's name.
        layout: String,
        /// The size asked for, header included.
        bytes: usize,
    },
    /// More layouts than headers can number.
    #[error("more than {} layouts", header::MAX_LAYOUTS)]
    TooMany,
}

/// A field of a record, in the order of declaration: what initialises an object follows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AnyField {
    Reference(RefField),
    Scalar(Field),
}

impl AnyField {
    /// The bytes of the object that the field takes.
    fn range(self) -> Range<usize> {
        let (offset, bytes) = match self {
            Self::Reference(field) => (field.0, WORD as u32),
            Self::Scalar(field) => (field.offset, field.bytes),
        };
        offset as usize..offset as usize + bytes as usize
    }
}

/// A record layout under construction: each field lies behind those that were named before it, at its
/// natural alignment (at most eight bytes), or where one says ([`Record::reference_at`],
/// [`Record::scalar_at`]).
#[derive(Clone, Debug)]
pub struct Record {
    name: String,
    fields: Vec<(String, AnyField)>,
    bytes: usize,
}

impl Record {
    /// A record without fields. The name appears in diagnostics.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), fields: Vec::new(), bytes: WORD }
    }

    fn place(&mut self, bytes: u32) -> u32 {
        let offset = self.bytes.next_multiple_of((bytes as usize).min(WORD));
        self.bytes = offset + bytes as usize;
        // A record too large for a `u32` is refused by `Layouts::record` long before it wraps.
        u32::try_from(offset).unwrap_or(u32::MAX)
    }

    /// Adds a field that holds a reference, null, or an immediate.
    pub fn reference(&mut self, name: &str) -> RefField {
        let field = RefField(self.place(WORD as u32));
        self.fields.push((name.to_owned(), AnyField::Reference(field)));
        field
    }

    /// Adds a field of 1, 2, 4, 8 or 16 bytes that is not a reference.
    ///
    /// # Errors
    /// [`LayoutError::ScalarSize`] for any other size.
    pub fn scalar(&mut self, name: &str, bytes: u32) -> Result<Field, LayoutError> {
        self.check_scalar(name, bytes)?;
        let field = Field { offset: self.place(bytes), bytes };
        self.fields.push((name.to_owned(), AnyField::Scalar(field)));
        Ok(field)
    }

    /// Adds a field that holds a reference, `offset` bytes from the object's address.
    ///
    /// # Errors
    /// [`LayoutError::Offset`] if the field would be in the header, or not at a multiple of its size.
    /// Whether it overlaps another one is found by [`Layouts::record`].
    pub fn reference_at(&mut self, name: &str, offset: u32) -> Result<RefField, LayoutError> {
        self.check_offset(name, offset, WORD as u32)?;
        let field = RefField(offset);
        self.push_at(name, AnyField::Reference(field));
        Ok(field)
    }

    /// Adds a scalar of 1, 2, 4, 8 or 16 bytes, `offset` bytes from the object's address.
    ///
    /// # Errors
    /// [`LayoutError::ScalarSize`] for any other size; [`LayoutError::Offset`] as for
    /// [`Record::reference_at`].
    pub fn scalar_at(&mut self, name: &str, offset: u32, bytes: u32) -> Result<Field, LayoutError> {
        self.check_scalar(name, bytes)?;
        self.check_offset(name, offset, bytes)?;
        let field = Field { offset, bytes };
        self.push_at(name, AnyField::Scalar(field));
        Ok(field)
    }

    fn push_at(&mut self, name: &str, field: AnyField) {
        self.bytes = self.bytes.max(field.range().end);
        self.fields.push((name.to_owned(), field));
    }

    fn check_scalar(&self, name: &str, bytes: u32) -> Result<(), LayoutError> {
        if matches!(bytes, 1 | 2 | 4 | 8 | 16) {
            return Ok(());
        }
        let (layout, field) = (self.name.clone(), name.to_owned());
        Err(LayoutError::ScalarSize { layout, field, bytes })
    }

    fn check_offset(&self, name: &str, offset: u32, bytes: u32) -> Result<(), LayoutError> {
        let align = bytes.min(WORD as u32);
        if offset as usize >= WORD && offset.is_multiple_of(align) {
            return Ok(());
        }
        let (layout, field) = (self.name.clone(), name.to_owned());
        Err(LayoutError::Offset { layout, field, offset, align })
    }

    /// The first two fields, in the order of their offsets, that share a byte.
    fn overlap(&self) -> Option<(&str, &str)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(_, field)| field.range().start);
        let overlap =
            |pair: &&[&(String, AnyField)]| pair[0].1.range().end > pair[1].1.range().start;
        fields.windows(2).find(overlap).map(|pair| (&*pair[0].0, &*pair[1].0))
    }
}

#[derive(Debug)]
struct Layout {
    name: String,
    template: Header,
    /// Header included; 0 for arrays, whose size their length tells.
    bytes: usize,
    fields: Vec<(String, AnyField)>,
    /// The payload words that hold references.
    references: Vec<u32>,
}

/// All layouts of a program.
#[derive(Debug, Default)]
pub struct Layouts {
    layouts: Vec<Layout>,
}

impl Layouts {
    /// Registers a record.
    ///
    /// # Errors
    /// [`LayoutError::RecordSize`] if it is too large, [`LayoutError::Overlap`] if two fields share a
    /// byte, [`LayoutError::TooMany`] after 2^24 layouts.
    pub fn record(&mut self, record: Record) -> Result<LayoutId, LayoutError> {
        let id = self.next_id()?;
        let bytes = record.bytes.next_multiple_of(WORD);
        if bytes > MAX_RECORD_BYTES {
            return Err(LayoutError::RecordSize { layout: record.name, bytes });
        }
        if let Some((first, second)) = record.overlap() {
            let (first, second) = (first.to_owned(), second.to_owned());
            return Err(LayoutError::Overlap { layout: record.name, first, second });
        }
        let words = (bytes / WORD - 1) as u32;
        let references: Vec<u32> = record
            .fields
            .iter()
            .filter_map(|(_, field)| match field {
                AnyField::Reference(field) => Some(field.offset() / WORD as u32 - 1),
                AnyField::Scalar(_) => None,
            })
            .collect();
        let template = if words <= header::INLINE_WORDS {
            Header::record(id, words, references.iter().fold(0, |bits, word| bits | 1 << word))
        } else {
            Header::table(id)
        };
        let Record { name, fields, .. } = record;
        self.layouts.push(Layout { name, template, bytes, fields, references });
        Ok(id)
    }

    /// Registers an array whose elements are references.
    ///
    /// # Errors
    /// [`LayoutError::TooMany`] after 2^24 layouts.
    pub fn references(&mut self, name: impl Into<String>) -> Result<ArrayLayout, LayoutError> {
        let id = self.next_id()?;
        self.push_array(name.into(), Header::references(id));
        Ok(ArrayLayout { id, element_bytes: WORD as u32, holds_references: true })
    }

    /// Registers an array whose elements are scalars of 1, 2, 4, 8 or 16 bytes.
    ///
    /// # Errors
    /// [`LayoutError::ScalarSize`] for any other size, [`LayoutError::TooMany`] after 2^24 layouts.
    pub fn scalars(
        &mut self,
        name: impl Into<String>,
        element_bytes: u32,
    ) -> Result<ArrayLayout, LayoutError> {
        let (id, name) = (self.next_id()?, name.into());
        if !matches!(element_bytes, 1 | 2 | 4 | 8 | 16) {
            let field = "[]".to_owned();
            return Err(LayoutError::ScalarSize { layout: name, field, bytes: element_bytes });
        }
        self.push_array(name, Header::scalars(id, element_bytes.ilog2()));
        Ok(ArrayLayout { id, element_bytes, holds_references: false })
    }

    fn push_array(&mut self, name: String, template: Header) {
        let (fields, references) = (Vec::new(), Vec::new());
        self.layouts.push(Layout { name, template, bytes: 0, fields, references });
    }

    fn next_id(&self) -> Result<LayoutId, LayoutError> {
        if self.layouts.len() == header::MAX_LAYOUTS {
            return Err(LayoutError::TooMany);
        }
        Ok(LayoutId(self.layouts.len() as u32))
    }

    fn get(&self, id: LayoutId) -> &Layout {
        &self.layouts[id.0 as usize]
    }

    /// The header of a new object of this layout; an array's has length 0.
    pub fn template(&self, id: LayoutId) -> Header {
        self.get(id).template
    }

    /// Whether a header is one that an object of a registered layout can have.
    pub fn describes(&self, header: Header) -> bool {
        let template = self.layouts.get(header.layout().0 as usize).map(|layout| layout.template);
        template.is_some_and(|template| match template.is_array() {
            true => header == template.with_length(header.length() as u32),
            false => header == template,
        })
    }

    /// Whether an array layout is one of these, and not of somebody else's.
    pub(crate) fn has_array(&self, array: ArrayLayout) -> bool {
        let template = self.layouts.get(array.id.0 as usize).map(|layout| layout.template);
        template.is_some_and(|template| {
            template.is_array()
                && template.elements() == (array.element_bytes, array.holds_references)
        })
    }

    /// The name that the layout was given.
    pub fn name(&self, id: LayoutId) -> &str {
        &self.get(id).name
    }

    /// The size of a record of this layout in bytes, header included.
    pub fn record_bytes(&self, id: LayoutId) -> usize {
        self.get(id).bytes
    }

    /// The payload words (0 is the one after the header) that hold references in a record.
    pub fn record_references(&self, id: LayoutId) -> &[u32] {
        &self.get(id).references
    }

    /// The names and places of a record's fields in the order of their declaration.
    pub(crate) fn fields(&self, id: LayoutId) -> &[(String, AnyField)] {
        &self.get(id).fields
    }
}
