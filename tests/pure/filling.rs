//! A heap that is filled to the last object, emptied, and filled again.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::HeapOptions;

use crate::world::{Kind, World};

const LIST: usize = 0;
const NEW: usize = 1;

/// A list of objects until there is no room: how many there are.
fn fill<C: Collector>(world: &mut World<C>, kind: Kind) -> usize {
    let mut count = 0;
    while world.allocate(kind, NEW) {
        world.store(NEW, 0, LIST);
        world.store(NEW, 1, NEW);
        world.load(NEW, 1, LIST);
        count += 1;
    }
    count
}

/// How many objects of a kind, which have `bytes` bytes, fit 64 KiB.
fn fill_twice<C: Collector>(kind: Kind, bytes: u64) -> usize {
    let mut world = World::<C>::new(HeapOptions::new(64 << 10), 2);
    let count = fill(&mut world, kind);
    world.collect();
    assert_eq!(fill(&mut world, kind), 0, "all of them are in use");
    assert!(world.free_bytes() < bytes);

    [LIST, NEW].into_iter().for_each(|root| world.set_root(root, 0));
    world.collect();
    let again = fill(&mut world, kind);
    assert_eq!(again, if C::ATTRS.frees { count } else { 0 });
    world.reset();
    assert_eq!(fill(&mut world, kind), count, "a heap that was reset is as new");
    count
}

#[test]
fn what_a_heap_holds() {
    // What mark-sweep needs beside its blocks of 16 KiB leaves three of them, of cells of 1024 bytes
    // for objects of 968.
    let large = (Kind::References(120), 968, [67, 33, 3 * 16]);
    let small = (Kind::Record(2), 32, [2048, 1024, 3 * 512]);
    for (kind, bytes, expected) in [large, small].into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
        assert_eq!(fill_twice::<NeverFree>(kind, bytes), expected[0]);
        assert_eq!(fill_twice::<Semispace>(kind, bytes), expected[1]);
        assert_eq!(fill_twice::<MarkSweep>(kind, bytes), expected[2]);
    }
}

const WIDTH: u32 = if cfg!(miri) { 60 } else { 400 };

/// An array of references to chains of three records, more of them than the mark stack holds.
fn wide<C: Collector>(heap_bytes: usize, width: u32) {
    let mut world = World::<C>::new(HeapOptions::new(heap_bytes), 3);
    let (array, node, next) = (0, 1, 2);
    assert!(world.allocate(Kind::References(width), array));
    for index in 0..width as usize {
        world.set_root(next, 0);
        for _ in 0..3 {
            assert!(world.allocate(Kind::Record(1), node));
            world.store(node, 0, next);
            world.store(array, index, node);
            world.load(array, index, next);
        }
    }
    [node, next].into_iter().for_each(|root| world.set_root(root, 0));
    assert_eq!(world.collections, 0, "so that there is something to do");
    world.collect();
    world.collect();
}

#[test]
fn more_children_than_the_mark_stack_holds() {
    // Three blocks have a mark stack of 48 entries.
    wide::<MarkSweep>(64 << 10, WIDTH);
    wide::<Semispace>(64 << 10, WIDTH);
}

/// Objects of one to five blocks of 16 KiB among small ones, of which every second one goes.
fn large<C: Collector>(heap_bytes: usize) {
    let mut world = World::<C>::new(HeapOptions::new(heap_bytes), 8);
    for round in 0..if cfg!(miri) { 2 } else { 8 } {
        for root in 0..8 {
            let kind = match root {
                0 => Kind::Scalars(0, 4089),
                1 => Kind::Scalars(3, 2 * 2048 - 1),
                2 => Kind::References(2 * 2048),
                3 => Kind::Scalars(4, 5 * 1024 - 1),
                _ => Kind::Record(root - 3),
            };
            assert!(world.allocate(kind, root), "round {round}, root {root}");
        }
        (0..2).for_each(|number| world.store(6, number, 2));
        world.store(2, 4095, 3);
        world.store(2, 0, 6);
        (0..8).step_by(2).for_each(|root| world.set_root(root, 0));
        world.collect();
    }
}

#[test]
fn objects_of_several_blocks() {
    large::<Semispace>(1 << 20);
    large::<MarkSweep>(512 << 10);
}
