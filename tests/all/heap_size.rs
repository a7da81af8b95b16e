//! How heap sizes are written and what they come to.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::{AllocationBuffer, GRANULE, HeapError, HeapOptions};
use tospace::workloads::{HeapSize, Workload};

#[test]
fn sizes_are_bytes_with_a_unit_or_a_multiple() {
    for (text, size) in [
        ("4096", HeapSize::Bytes(4096)),
        ("0", HeapSize::Bytes(0)),
        ("3K", HeapSize::Bytes(3 << 10)),
        ("64M", HeapSize::Bytes(64 << 20)),
        ("2G", HeapSize::Bytes(2 << 30)),
        ("2x", HeapSize::Multiple(2.0)),
        ("1.5x", HeapSize::Multiple(1.5)),
    ] {
        assert_eq!(text.parse(), Ok(size), "{text}");
    }
    let wrong = [
        "",
        "M",
        "x",
        "-1",
        "+1",
        "1.5M",
        "12q",
        "64 M",
        "64m",
        "0x",
        "-2x",
        "NaNx",
        "infx",
        "é",
        "99999999999999999999",
        "99999999999G",
    ];
    for text in wrong {
        let error = text.parse::<HeapSize>().expect_err(text);
        assert!(error.to_string().starts_with(&format!("`{text}`")), "{error}");
    }
}

fn heap_bytes<C: Collector>(options: HeapOptions) -> u64 {
    let collector = C::new(options).expect("a heap");
    // SAFETY: the buffer is empty.
    unsafe { collector.usage(&AllocationBuffer::EMPTY) }.heap_bytes
}

#[test]
fn a_heap_has_whole_granules() {
    for (bytes, expected) in
        [(GRANULE, GRANULE), (GRANULE + 1, GRANULE), (5 * GRANULE - 1, 4 * GRANULE)]
    {
        let options = HeapOptions::new(bytes);
        let heap_bytes = [
            heap_bytes::<Semispace>(options),
            heap_bytes::<MarkSweep>(options),
            heap_bytes::<NeverFree>(options),
        ];
        assert_eq!(heap_bytes, [expected as u64; 3]);
    }
    for bytes in [0, GRANULE - 1] {
        let error = Semispace::new(HeapOptions::new(bytes)).expect_err("no granule");
        assert!(matches!(error, HeapError::TooSmall { bytes: asked } if asked == bytes));
    }
    // The system itself would promise the first one.
    for bytes in [1 << 45, 1 << 50, usize::MAX] {
        let beyond = HeapOptions::new(bytes);
        let errors = [
            Semispace::new(beyond).err(),
            MarkSweep::new(beyond).err(),
            NeverFree::new(beyond).err(),
        ];
        for error in errors {
            let error = error.expect("no machine has that");
            assert!(matches!(error, HeapError::TooLarge { bytes: asked, .. } if asked == bytes));
        }
    }
}

#[test]
fn a_multiple_is_of_the_peak_live_size() {
    let workload = Workload::named("list").unwrap();
    let oracle = workload.oracle(&workload.defaults());
    let size = HeapSize::Multiple(2.0);
    let bytes = size.bytes(&oracle, &Semispace::ATTRS);
    assert_eq!(bytes, (2 * oracle.peak_live_bytes).next_multiple_of(GRANULE as u64));
    assert_eq!(size.bytes(&oracle, &MarkSweep::ATTRS), bytes);
    // Nothing is freed: it takes what is allocated.
    assert!(size.bytes(&oracle, &NeverFree::ATTRS) > oracle.bytes);
}
