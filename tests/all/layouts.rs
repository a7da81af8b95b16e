//! Layouts: where fields lie, what the header says of them, and what cannot be.

use tospace::heap::layout::MAX_RECORD_BYTES;
use tospace::heap::{GcRef, LayoutError, Layouts, Record, WORD};

/// The slots that a header says an object has, in words from the header.
fn slots(layouts: &Layouts, header: tospace::heap::Header, words: usize) -> Vec<usize> {
    let mut memory = vec![0_usize; words];
    let start = memory.as_mut_ptr().expose_provenance();
    // SAFETY: `memory` is as large as the header says and is written to by nobody else.
    unsafe {
        let object = GcRef::at(start);
        header.write(object);
        let mut slots = Vec::new();
        header.visit_slots(object, layouts, |slot| slots.push((slot.address() - start) / WORD));
        slots
    }
}

#[test]
fn fields_have_their_natural_alignment() {
    let mut record = Record::new("mixed");
    let flag = record.scalar("flag", 1).unwrap();
    let first = record.reference("first");
    let short = record.scalar("short", 2).unwrap();
    let int = record.scalar("int", 4).unwrap();
    let wide = record.scalar("wide", 16).unwrap();
    let second = record.reference("second");
    let byte = record.scalar("byte", 1).unwrap();
    let offsets = [flag, short, int, wide, byte].map(|field| field.offset());
    assert_eq!(offsets, [8, 24, 28, 32, 56]);
    assert_eq!((first.offset(), second.offset()), (16, 48));

    let mut layouts = Layouts::default();
    let id = layouts.record(record).unwrap();
    let header = layouts.template(id);
    assert_eq!((layouts.record_bytes(id), header.bytes(&layouts)), (64, 64));
    assert_eq!(slots(&layouts, header, 8), [2, 6]);
    assert_eq!((header.layout(), layouts.name(id)), (id, "mixed"));
    assert!(!header.is_array());
}

#[test]
fn records_around_the_size_that_a_header_describes() {
    let mut layouts = Layouts::default();
    for fields in [0, 1, 23, 24, 25, 26, 200, MAX_RECORD_BYTES / WORD - 1] {
        let mut record = Record::new(format!("record of {fields}"));
        for index in 0..fields {
            // Every third field is a reference, the last one too.
            if index % 3 == 0 || index == fields - 1 {
                record.reference(&format!("reference {index}"));
            } else {
                record.scalar(&format!("scalar {index}"), 8).unwrap();
            }
        }
        let id = layouts.record(record).unwrap();
        let header = layouts.template(id);
        assert_eq!(header.bytes(&layouts), (fields + 1) * WORD);
        let expected: Vec<usize> =
            (0..fields).filter(|i| i % 3 == 0 || *i == fields - 1).map(|i| i + 1).collect();
        assert_eq!(slots(&layouts, header, fields + 1), expected, "{fields} fields");
    }
}

#[test]
fn arrays() {
    for (element_bytes, length, bytes) in [
        (1, 0, 8),
        (1, 1, 16),
        (1, 8, 16),
        (1, 9, 24),
        (2, 3, 16),
        (4, 3, 24),
        (8, 3, 32),
        (16, 3, 56),
    ] {
        let mut layouts = Layouts::default();
        let header = array_header(&mut layouts, Some(element_bytes)).with_length(length);
        assert_eq!(header.bytes(&layouts), bytes, "{length} elements of {element_bytes}");
        assert_eq!(header.length(), length as usize);
        assert!(slots(&layouts, header, bytes / WORD).is_empty());
    }
    let mut layouts = Layouts::default();
    let header = array_header(&mut layouts, None).with_length(3);
    assert_eq!(slots(&layouts, header, 4), [1, 2, 3]);
    assert_eq!(header.with_length(u32::MAX).bytes(&layouts), 8 + 8 * u32::MAX as usize);
}

/// The header of an empty array of scalars of that size, or of references.
fn array_header(layouts: &mut Layouts, element_bytes: Option<u32>) -> tospace::heap::Header {
    let layout = match element_bytes {
        Some(bytes) => layouts.scalars("array", bytes).unwrap(),
        None => layouts.references("array").unwrap(),
    };
    layouts.template(layout.id())
}

#[test]
fn what_cannot_be_says_why() {
    let mut record = Record::new("odd");
    let error = record.scalar("three", 3).expect_err("no load has three bytes");
    assert_eq!(error.to_string(), "`odd.three`: a scalar has 1, 2, 4, 8 or 16 bytes, not 3");
    let mut layouts = Layouts::default();
    assert!(matches!(layouts.scalars("a", 0), Err(LayoutError::ScalarSize { bytes: 0, .. })));

    let mut record = Record::new("large");
    for _ in 0..MAX_RECORD_BYTES / WORD {
        record.reference("field");
    }
    let error = layouts.record(record).expect_err("one word too many");
    assert_eq!(error.to_string(), "record `large` has 65544 bytes; the most is 65536");
}

#[test]
fn fields_at_offsets_of_ones_own() {
    let mut layouts = Layouts::default();
    let mut record = Record::new("given");
    let late = record.reference_at("late", 32).unwrap();
    let byte = record.scalar_at("byte", 9, 1).unwrap();
    let behind = record.scalar("behind", 4).unwrap();
    let first = record.reference_at("first", 16).unwrap();
    assert_eq!([late.offset(), first.offset()], [32, 16]);
    assert_eq!([byte.offset(), behind.offset()], [9, 40]);
    let id = layouts.record(record).unwrap();
    assert_eq!(layouts.record_bytes(id), 48);
    assert_eq!(slots(&layouts, layouts.template(id), 6), [2, 4]);

    let mut record = Record::new("odd");
    for (offset, bytes) in [(0, 8), (7, 1), (12, 8), (9, 2), (20, 16)] {
        let error = record.scalar_at("field", offset, bytes).expect_err("not there");
        let expected = format!("`odd.field` at {offset}: fields begin at 8");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    assert!(matches!(record.reference_at("r", 4), Err(LayoutError::Offset { align: 8, .. })));
    assert!(matches!(record.scalar_at("s", 8, 3), Err(LayoutError::ScalarSize { .. })));
    let far = record.reference_at("far", u32::MAX - 7).unwrap();
    assert_eq!(far.offset(), u32::MAX - 7);
    let error = layouts.record(record).expect_err("far too large");
    assert!(matches!(error, LayoutError::RecordSize { bytes: 0x1_0000_0000, .. }), "{error}");

    for (first, second) in [((8, 8), (8, 8)), ((8, 16), (16, 8)), ((23, 1), (16, 8))] {
        let mut record = Record::new("tight");
        record.scalar_at("one", first.0, first.1).unwrap();
        record.scalar_at("other", second.0, second.1).unwrap();
        let error = layouts.record(record).expect_err("they overlap");
        assert!(matches!(error, LayoutError::Overlap { .. }), "{error}");
    }
    let mut record = Record::new("tight");
    record.reference_at("link", 16).unwrap();
    record.scalar_at("half", 20, 4).unwrap();
    let error = layouts.record(record).expect_err("half of a reference");
    assert_eq!(error.to_string(), "`tight.link` and `tight.half` overlap");
}
