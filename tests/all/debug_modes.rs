//! Verify names the slot that a collection forgot; protect makes what was retired unusable for good.

use std::panic::{self, AssertUnwindSafe};

use cranelift_codegen::ir::types::I64;
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::{
    AllocationBuffer, Cycle, GcRef, HeapOptions, Layouts, Observer, POISON, Place, Record,
    Reservation, Roots, RootsVisited, Slot, verify, verify::Problem,
};
use tospace::jit::Signature;
use tospace::{Mutator, Val, args};

use crate::altered::{Alteration, Altered};
use crate::support::{boxes, int};

struct ButTheFirst<'a, R>(&'a R);

// SAFETY: it is not what it promises: that is the fault.
unsafe impl<R: Roots> Roots for ButTheFirst<'_, R> {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let mut first = true;
        self.0.visit(|slot| {
            if !std::mem::take(&mut first) {
                visit(slot);
            }
        })
    }
}

/// A seeded fault: collections do not see the first root.
struct Skips;

impl Alteration for Skips {
    unsafe fn collect(
        semispace: &mut Semispace,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        // SAFETY: the caller's promise, but for the fault.
        unsafe { semispace.collect(&ButTheFirst(roots), layouts, buffer, observer) }
    }
}

type SkipsARoot = Altered<Skips>;

/// One root.
struct One(std::cell::Cell<usize>);
// SAFETY: a cell may be written to through a shared reference.
unsafe impl Roots for One {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        // SAFETY: the cell's word.
        visit(unsafe { Slot::at(self.0.as_ptr().expose_provenance()) });
        RootsVisited { frames: 0, slots: 1 }
    }
}

/// Holds a box over a collection; gives the number in it.
fn hold<C: Collector>(verify: bool, protect: bool) -> Result<i64, String> {
    let mut boxes = boxes(C::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let run = boxes
        .module
        .function("run", Signature::new([I64.into()], [I64.into()]), |e| {
            let own = e.param(0);
            let held = e.new_record(layout, args![own]);
            e.collect();
            let own = e.load(held, number, I64);
            e.ret(args![own]);
        })
        .unwrap();
    let collector = C::new(HeapOptions { protect, ..HeapOptions::new(1 << 20) }).unwrap();
    let mut mutator = Mutator::new(boxes.module, collector).unwrap();
    mutator.set_verify(verify);
    let call = AssertUnwindSafe(|| int(mutator.call(run, &[Val::I64(42)]).expect("no trap")));
    panic::catch_unwind(call).map_err(|panic| *panic.downcast::<String>().expect("a message"))
}

#[test]
fn verify_names_a_root_that_was_forgotten() {
    // The box was left behind. Its memory still holds what it held: the answer is no proof.
    assert_eq!(hold::<SkipsARoot>(false, false), Ok(42));
    for protect in [false, true] {
        assert_eq!(hold::<Semispace>(true, protect), Ok(42));
        assert_eq!(hold::<MarkSweep>(true, protect), Ok(42));
        let message = hold::<SkipsARoot>(true, protect).expect_err("the root is stale");
        assert!(message.starts_with("after collection 1: the root at 0x"), "{message}");
        assert!(message.ends_with("in the heap, where no live object starts"), "{message}");
    }
}

/// Runs the verifier over one root, in a semispace that holds two boxes of which the first is empty.
fn verify_word(word: impl Fn(GcRef) -> usize) -> Result<u64, Problem> {
    let mut layouts = Layouts::default();
    let mut record = Record::new("box");
    record.scalar("number", 8).unwrap();
    let layout = layouts.record(record).unwrap();
    let mut collector = Semispace::new(HeapOptions::new(1 << 20)).unwrap();
    let mut buffer = AllocationBuffer::EMPTY;
    let mut allocate = || {
        // SAFETY: the buffer is the collector's; the object has two words, which are zero.
        unsafe {
            let object = collector.allocate(16, &mut buffer, &mut ()).expect("there is room");
            layouts.template(layout).write(object);
            object
        }
    };
    let (first, _second) = (allocate(), allocate());
    let roots = One(std::cell::Cell::new(word(first)));
    let place = |reference| collector.place(reference, &buffer);
    // SAFETY: what lies below the cursor can be read.
    unsafe { verify(&roots, &layouts, place) }.map_err(|violation| violation.problem)
}

#[test]
fn verify_tells_what_is_wrong_with_a_word() {
    assert_eq!(verify_word(|object| object.address()), Ok(16));
    assert_eq!(verify_word(|_| 0), Ok(0));
    assert_eq!(verify_word(|object| object.address() + 1), Ok(0), "an immediate");
    assert_eq!(verify_word(|object| object.address() + 8), Err(Problem::NoHeader));
    assert_eq!(verify_word(|object| object.address() + 32), Err(Problem::Stale));
}

/// Where objects were before they were copied.
#[derive(Default)]
struct OldAddresses(Vec<usize>);

impl Observer for OldAddresses {
    const OBJECTS: bool = true;

    fn copied(&mut self, from: GcRef, _to: GcRef, _bytes: usize) {
        self.0.push(from.address());
    }
}

/// Whether any access is allowed at an address, as the system says.
fn is_accessible(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').expect("a range and the rest");
        let (start, end) = range.split_once('-').expect("two addresses");
        let parse = |text| usize::from_str_radix(text, 16).expect("a number");
        (parse(start)..parse(end)).contains(&address) && !rest.starts_with("---")
    })
}

#[test]
fn protect_leaves_no_retired_space_accessible() {
    let mut boxes = boxes(Semispace::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let run = boxes
        .module
        .function("run", Signature::new([I64.into()], [I64.into()]), |e| {
            let own = e.param(0);
            let held = e.new_record(layout, args![own]);
            for _ in 0..10 {
                e.collect();
            }
            let own = e.load(held, number, I64);
            e.ret(args![own]);
        })
        .unwrap();
    let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
    let collector = Semispace::new(options).unwrap();
    let mut mutator = Mutator::observed(boxes.module, collector, OldAddresses::default()).unwrap();
    assert_eq!(int(mutator.call(run, &[Val::I64(7)]).expect("no trap")), 7);
    let mut old = std::mem::take(&mut mutator.observer().0);
    assert_eq!(old.len(), 10);
    assert!(old.iter().all(|&address| !is_accessible(address)), "{old:x?}");
    old.sort_unstable();
    old.dedup();
    assert_eq!(old.len(), 10, "each cycle has fresh memory");
}

#[test]
fn a_reservation_hands_out_pieces_that_are_not_in_use() {
    // So large that only one fits what is usually reserved: more has to be, and pieces are used again
    // soon.
    let mut reservation = Reservation::new(34 << 30).unwrap();
    let mut before = reservation.take().unwrap();
    for _ in 0..20 {
        let space = reservation.take().unwrap();
        assert_ne!(space.start(), before.start());
        assert!(reservation.bounds().contains(space.start()));
        // SAFETY: the first word of a space that is this test's own.
        unsafe {
            let word: *mut usize = std::ptr::with_exposed_provenance_mut(space.start());
            assert_eq!(word.read(), 0, "what was there before is gone");
            word.write(7);
        }
        reservation.retire(&before);
        assert!(!is_accessible(before.start()));
        before = space;
    }
}

#[test]
fn protect_poisons_what_mark_sweep_frees() {
    let mut layouts = Layouts::default();
    let mut pair = Record::new("pair");
    pair.reference("left");
    pair.scalar("right", 8).unwrap();
    let pair = layouts.record(pair).unwrap();
    let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
    let mut collector = MarkSweep::new(options).unwrap();
    let mut buffer = AllocationBuffer::EMPTY;
    let mut allocate = |number: usize| {
        // SAFETY: the buffer is the collector's; the object has three words.
        unsafe {
            let object = collector.allocate(24, &mut buffer, &mut ()).expect("there is room");
            layouts.template(pair).write(object);
            let fields: *mut usize = std::ptr::with_exposed_provenance_mut(object.address() + 8);
            fields.write(0);
            fields.add(1).write(number);
            object
        }
    };
    let (dead, live) = (allocate(1), allocate(2));

    let roots = One(std::cell::Cell::new(live.address()));
    // SAFETY: the roots and the objects hold references to objects, or null.
    unsafe { collector.collect(&roots, &layouts, &mut buffer, &mut ()) };
    // SAFETY: both lie in the collector's memory, which stays mapped.
    let word =
        |object: GcRef, index: usize| unsafe { Slot::at(object.address() + 8 * index) }.word();
    assert_eq!([0, 1, 2].map(|index| word(dead, index)), [POISON; 3]);
    assert_eq!(word(live, 2), 2);
    assert_eq!(collector.place(dead, &buffer), Place::Stale);
    assert_eq!(collector.place(live, &buffer), Place::Live);
}
