//! The map table finds exactly the return addresses that were registered.

use proptest::prelude::*;
use tospace::stack::{CallSite, MapTable};

fn site(span: usize, offsets: &[u32]) -> CallSite<'_> {
    CallSite { span, offsets, handler: None }
}

proptest! {
    #[test]
    fn finds_what_was_registered_and_nothing_else(
        sites in prop::collection::btree_map(
            1_usize..50_000,
            (
                0_usize..4096,
                prop::collection::vec((0_u32..64).prop_map(|word| word * 8), 0..6),
                prop::option::of(0_usize..100_000),
            ),
            0..600,
        ),
    ) {
        let mut table = MapTable::default();
        for (&address, (span, offsets, handler)) in &sites {
            table.insert(address, CallSite { handler: *handler, ..site(*span, offsets) });
        }
        prop_assert_eq!(table.len(), sites.len());
        for address in 0..50_001 {
            let expected = sites.get(&address);
            let expected = expected.map(|(span, offsets, handler)| {
                CallSite { handler: *handler, ..site(*span, offsets) }
            });
            prop_assert_eq!(table.get(address), expected, "{}", address);
        }
    }
}

#[test]
fn neighbours_of_a_return_address_are_not_found() {
    let mut table = MapTable::default();
    assert!(table.is_empty() && table.get(0x1000).is_none());
    table.insert(0x1000, site(64, &[8]));
    assert!(table.get(0x1000).is_some());
    for near in [0, 0xfff, 0x1001, 0x1000 + 64] {
        assert_eq!(table.get(near), None, "{near:#x}");
    }
}

#[test]
fn equal_lists_of_slots_are_stored_once() {
    let mut shared = MapTable::default();
    let mut distinct = MapTable::default();
    for index in 0..1000_u32 {
        let address = 0x1000 + index as usize;
        shared.insert(address, site(64, &[0, 8, 16]));
        distinct.insert(address, site(64, &[8 * index, 8 * index + 8]));
    }
    assert_eq!(distinct.bytes() - shared.bytes(), (2000 - 3) * 4);
}

#[test]
#[should_panic(expected = "registered twice")]
fn a_return_address_has_one_map() {
    let mut table = MapTable::default();
    table.insert(0x1000, site(64, &[8]));
    table.insert(0x1000, site(32, &[]));
}
