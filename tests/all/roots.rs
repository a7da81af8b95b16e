//! What a slot may hold: null, an immediate, a reference to elsewhere, the same object as another.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic;

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::{
    AllocationBuffer, GcRef, Header, HeapOptions, Layouts, Record, Roots, RootsVisited, Slot,
    Space, header,
};
use tospace::jit::{Context, OptLevel, Signature};
use tospace::stack::{FrameRoots, MapTable};
use tospace::{Val, args};

use crate::support::{boxes_at, int, mutator};

/// Roots in an array of words.
struct Words(Vec<usize>);

// SAFETY: the words are this array's own, and written only through the slots.
unsafe impl Roots for Words {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let start = self.0.as_ptr().expose_provenance();
        for index in 0..self.0.len() {
            // SAFETY: a word of the array.
            visit(unsafe { Slot::at(start + index * 8) });
        }
        RootsVisited { frames: 0, slots: self.0.len() as u64 }
    }
}

#[test]
fn a_space_contains_the_aligned_addresses_between_its_ends() {
    let space = Space::map(1 << 16, false).unwrap();
    let (start, end) = (space.start(), space.start() + space.bytes());
    for inside in [start, start + 8, end - 8] {
        assert!(space.bounds().contains(inside), "{inside:#x}");
    }
    for outside in [0, 1, 7, 8, start - 8, start + 1, start + 4, end - 1, end, end + 8, usize::MAX]
    {
        assert!(!space.bounds().contains(outside), "{outside:#x}");
    }
}

fn collect_odd_slots<C: Collector>() {
    let mut layouts = Layouts::default();
    let mut pair = Record::new("pair");
    pair.reference("left");
    pair.reference("right");
    let pair = layouts.record(pair).unwrap();
    let template: Header = layouts.template(pair);
    let mut buffer = AllocationBuffer::EMPTY;
    let mut collector = C::new(HeapOptions::new(1 << 20)).unwrap();

    let mut allocate = |left: usize, right: usize| {
        let object = {
            // SAFETY: the buffer is this collector's.
            unsafe { collector.allocate(24, &mut buffer, &mut ()) }.expect("there is room")
        };
        // SAFETY: a new object of three words.
        unsafe {
            template.write(object);
            let fields: *mut usize = std::ptr::with_exposed_provenance_mut(object.address() + 8);
            fields.write(left);
            fields.add(1).write(right);
        }
        object.address()
    };
    let elsewhere = Box::new([template.bits(), 0, 0]);
    let foreign = elsewhere.as_ptr().expose_provenance();
    let garbage = allocate(0, 0);
    let shared = allocate(0, 41);
    let first = allocate(shared, foreign);
    let second = allocate(shared, first);

    let roots = Words(vec![0, 7, first + 1, foreign, second, first, second, usize::MAX]);
    // SAFETY: every word is one that slots may hold.
    let cycle = unsafe { collector.collect(&roots, &layouts, &mut buffer, &mut ()) };
    assert_eq!(cycle.live_bytes, 3 * 24, "each live object once, {garbage:#x} not at all");
    assert_eq!(cycle.slots_visited, 8);

    let [null, immediate, near, still_foreign, new_second, new_first, again, last] = roots.0[..]
    else {
        unreachable!()
    };
    assert_eq!((null, immediate, near), (0, 7, first + 1), "immediates are left alone");
    assert_eq!((still_foreign, last), (foreign, usize::MAX));
    assert_eq!(new_second, again, "both slots of one object agree");
    if C::ATTRS.moves {
        assert_ne!((new_first, new_second), (first, second));
    }
    let field = |object: usize, index: usize| {
        // SAFETY: a field of a live object.
        unsafe {
            assert!(matches!(header::read(GcRef::at(object)), header_word if header_word
                == tospace::heap::HeaderWord::Header(template)));
            Slot::at(object + 8 * (index + 1)).word()
        }
    };
    assert_eq!(field(new_second, 1), new_first);
    assert_eq!(field(new_second, 0), field(new_first, 0), "the shared object is still one");
    assert_eq!(field(new_first, 1), foreign);
    assert_eq!(field(field(new_first, 0), 1), 41);
}

#[test]
fn null_immediates_and_references_to_elsewhere() {
    collect_odd_slots::<Semispace>();
    collect_odd_slots::<MarkSweep>();
}

/// Null and immediates live in frames like references, in mapped slots, and no collection changes them.
#[test]
fn immediates_in_frames() {
    for opt_level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
        let mut boxes = boxes_at(Semispace::ATTRS, opt_level);
        let (layout, number) = (boxes.layout, boxes.number);
        let mixed = boxes
            .module
            .function("mixed", Signature::new([I64.into()], [I64.into()]), |e| {
                let value = e.param(0);
                // Tagged by their lowest bit: declared, because what flows here may be a reference.
                let tagged = e.ins().ishl_imm_u(value, 1);
                let tagged = e.ins().bor_imm_u(tagged, 1);
                let tagged = e.adopt_ref(tagged);
                let object = e.new_record(layout, args![value]);
                let null = e.null();
                let held = [tagged, object, null, object].map(|held| e.ref_var(held));
                e.collect();
                e.collect();
                let [tagged, object, null, again] = held.map(|held| e.get_ref(held));
                let untagged = e.ins().ushr_imm_u(tagged.value(), 1);
                let own = e.load(object, number, I64);
                let same = e.is_same(object, again);
                let is_null = e.is_null(null);
                let mut sum = e.ins().iadd(untagged, own);
                for flag in [same, is_null] {
                    let flag = e.ins().uextend(I64, flag);
                    sum = e.ins().iadd(sum, flag);
                }
                e.ret(args![sum]);
            })
            .unwrap();
        let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
        mutator.set_verify(true);
        // An immediate that would be an address in the heap, were it not for the tag.
        for value in [5, 1 << 40, 0x7f00_0000_0000] {
            let result = int(mutator.call(mixed, &[Val::I64(value)]).unwrap());
            assert_eq!(result, 2 * value + 2);
        }
        assert_eq!(mutator.statistics().live_bytes_last, 16);
        assert!(mutator.statistics().total.slots_visited >= 3 * 6);
    }
}

/// A walk that meets a return address which nobody registered says so.
#[test]
fn a_return_address_that_is_unknown() {
    thread_local! {
        static SAID: RefCell<String> = const { RefCell::new(String::new()) };
    }
    extern "C" fn walks(context: *mut Context) {
        // SAFETY: compiled code waits at the exit trampoline that called this function; the table has
        // no call site at all, which is the mistake.
        let walk = || unsafe {
            let maps = MapTable::default();
            FrameRoots::new(&maps, (*context).activation).visit(|_| {});
        };
        let panic = panic::catch_unwind(walk).expect_err("nothing is registered");
        let message = panic.downcast_ref::<String>().expect("a message").clone();
        SAID.set(message);
    }
    let mut boxes = boxes_at(Semispace::ATTRS, OptLevel::Speed);
    // SAFETY: it has this signature, does not unwind and keeps no reference.
    let walks = unsafe {
        boxes.module.declare_host("walks", Signature::default(), walks as *const c_void).unwrap()
    };
    let calls = boxes
        .module
        .function("calls", Signature::default(), |e| {
            e.call(walks, args![]);
            e.ret(args![]);
        })
        .unwrap();
    mutator::<Semispace>(boxes.module, 1 << 20).call(calls, &[]).unwrap();
    SAID.with_borrow(|said| assert!(said.contains("no call site of registered code"), "{said}"));
}
