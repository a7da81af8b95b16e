//! The maps of targets that this crate does not run on, as Cranelift makes them: the same references
//! live at the same calls, in slots inside of the frame that the span describes.

use std::collections::BTreeSet;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{InstBuilder, types::I64};
use cranelift_codegen::settings::{self, Configurable};
use tospace::collector::{Collector, Semispace};
use tospace::jit::{REF, Ref, Signature};
use tospace::{Val, args};

use crate::support::{boxes, int, mutator};

/// One call site: FP - SP, and the slots' offsets from SP.
type Site = (u32, Vec<u32>);

/// The call sites with roots of a function, for a target.
fn sites(clif: &str, triple: &str) -> Vec<Site> {
    let mut flags = settings::builder();
    flags.set("preserve_frame_pointers", "true").unwrap();
    let isa = cranelift_codegen::isa::lookup_by_name(triple).unwrap();
    let isa = isa.finish(settings::Flags::new(flags)).unwrap();
    let function = cranelift_reader::parse_functions(clif).unwrap().remove(0);
    let mut context = Context::for_function(function);
    context.compile(&*isa, &mut ControlPlane::default()).unwrap();
    let buffer = &context.compiled_code().unwrap().buffer;
    let calls: BTreeSet<u32> = buffer.call_sites().map(|site| site.ret_addr).collect();
    let maps = buffer.user_stack_maps().iter();
    maps.map(|(return_offset, span, map)| {
        assert!(calls.contains(return_offset), "{triple}: a map at {return_offset:#x}, no call");
        let slots = map.entries().map(|(ty, offset)| {
            assert_eq!(ty, I64);
            assert!(offset + 8 <= *span, "{triple}: a slot at SP + {offset} of {span}");
            offset
        });
        (*span, slots.collect())
    })
    .collect()
}

#[test]
fn maps_of_four_targets() {
    const MANY: usize = 12;
    let mut boxes = boxes(Semispace::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let sum = boxes
        .module
        .function("sum", Signature::new([REF; MANY], [I64.into()]), |e| {
            e.collect();
            let mut total = e.int(I64, 0);
            for index in 0..MANY {
                let held = e.ref_param(index);
                let number = e.load(held, number, I64);
                total = e.ins().iadd(total, number);
            }
            e.ret(args![total]);
        })
        .unwrap();
    let program = boxes
        .module
        .function("program", Signature::new([I64.into()], [I64.into()]), |e| {
            let first = e.param(0);
            let held: Vec<Ref> = (0..MANY as i64)
                .map(|index| {
                    let number = e.ins().iadd_imm_s(first, index);
                    e.new_record(layout, args![number])
                })
                .collect();
            let passed: Vec<_> = held.iter().map(|&held| held.into()).collect();
            let once = e.call(sum, &passed).scalar();
            let again = e.call(sum, &passed).scalar();
            let total = e.ins().iadd(once, again);
            e.ret(args![total]);
        })
        .unwrap();
    for (func, roots) in [(sum, vec![MANY]), (program, (1..=MANY).collect())] {
        let clif = boxes.module.clif(func).expect("the text is kept");
        let targets = ["x86_64", "aarch64", "riscv64", "s390x"].map(|triple| sites(clif, triple));
        for sites in &targets {
            let mut counts: Vec<usize> = sites.iter().map(|(_, slots)| slots.len()).collect();
            // All but the last one, the second `sum`, at which nothing is live any more.
            counts.sort_unstable();
            assert_eq!(counts, roots);
            let distinct = |slots: &Vec<u32>| slots.iter().collect::<BTreeSet<_>>().len();
            assert!(sites.iter().all(|(_, slots)| distinct(slots) == slots.len()));
        }
        let spans = targets.map(|sites| sites[0].0);
        assert!(spans.iter().collect::<BTreeSet<_>>().len() > 1, "targets differ: {spans:?}");
    }
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 16);
    let expected = 2 * (0..MANY as i64).map(|index| 100 + index).sum::<i64>();
    assert_eq!(int(mutator.call(program, &[Val::I64(100)]).unwrap()), expected);
}
