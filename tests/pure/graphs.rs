//! Random graphs: whatever is reachable stays as it was, and everything else goes.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::HeapOptions;

use crate::world::{Kind, RECORDS, World};

const ROOTS: usize = 12;
const STEPS: usize = if cfg!(miri) { 600 } else { 10_000 };
const LARGEST: usize = if cfg!(miri) { 5_000 } else { 20_000 };
const SEEDS: u64 = if cfg!(miri) { 1 } else { 6 };

/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }

    /// Mostly small objects, now and then one of a few hundred bytes, rarely one of several blocks.
    fn kind(&mut self) -> Kind {
        match self.below(40) {
            0..28 => Kind::Record(self.below(RECORDS)),
            28..33 => Kind::References(self.below(8) as u32),
            33..38 => Kind::Scalars(self.below(5) as u32, self.below(40)),
            38 => Kind::References(self.below(600) as u32),
            _ => Kind::Scalars(0, self.below(LARGEST)),
        }
    }
}

/// One random thing that a mutator may do.
fn step<C: Collector>(world: &mut World<C>, random: &mut Random) {
    let (root, other) = (random.below(ROOTS), random.below(ROOTS));
    match random.below(100) {
        0..40 => {
            let kind = random.kind();
            while !world.allocate(kind, root) {
                make_room(world, random);
            }
        }
        40..90 => match world.node_at(root) {
            Some((_, slots @ 1..)) => {
                let number = random.below(slots);
                if random.below(5) < 3 {
                    world.store(root, number, other);
                } else {
                    world.load(root, number, other);
                }
            }
            _ => world.set_root(root, 0),
        },
        90..96 => world.set_root(root, world.immediate(other)),
        96..98 => {
            let foreign = world.foreign();
            world.set_root(root, foreign);
        }
        98 => world.collect(),
        _ if random.below(20) == 0 => world.reset(),
        _ => {}
    }
}

/// The heap is full: lets go of something, or of everything where nothing ever becomes free.
fn make_room<C: Collector>(world: &mut World<C>, random: &mut Random) {
    let held: Vec<usize> = (0..ROOTS).filter(|&root| world.node_at(root).is_some()).collect();
    if !C::ATTRS.frees {
        world.reset();
    } else {
        assert!(!held.is_empty(), "an empty heap has room for every object that is made here");
        world.set_root(held[random.below(held.len())], 0);
    }
}

fn random_graphs<C: Collector>(protect: bool) {
    for seed in 0..SEEDS {
        // A block of 16 KiB for each size of cell takes more room.
        let bytes = if C::ATTRS.moves { 64 << 10 } else { 256 << 10 };
        let options = HeapOptions { protect, ..HeapOptions::new(bytes) };
        let (mut world, mut random) = (World::<C>::new(options, ROOTS), Random(seed));
        for _ in 0..STEPS {
            step(&mut world, &mut random);
        }
        world.collect();
        assert!(world.collections >= if cfg!(miri) { 3 } else { 50 }, "{}", world.collections);
    }
}

#[test]
fn semispace_keeps_what_is_reachable() {
    random_graphs::<Semispace>(false);
}

#[test]
fn semispace_keeps_what_is_reachable_and_protects_the_rest() {
    random_graphs::<Semispace>(true);
}

#[test]
fn mark_sweep_keeps_what_is_reachable() {
    random_graphs::<MarkSweep>(false);
}

#[test]
fn mark_sweep_keeps_what_is_reachable_and_poisons_the_rest() {
    random_graphs::<MarkSweep>(true);
}

#[test]
fn never_free_keeps_everything() {
    random_graphs::<NeverFree>(false);
}
