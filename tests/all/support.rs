//! What several tests need.

use cranelift_codegen::ir::types::I64;
use tospace::collector::{Collector, CollectorAttrs};
use tospace::heap::{Field, HeapOptions, LayoutId, Record};
use tospace::jit::{Module, ModuleOptions, OptLevel};
use tospace::{Mutator, Val, args};

/// A module with one layout: a record that holds a number.
pub struct Boxes {
    pub module: Module,
    pub layout: LayoutId,
    pub number: Field,
}

pub fn boxes(attrs: CollectorAttrs) -> Boxes {
    boxes_at(attrs, OptLevel::Speed)
}

pub fn boxes_at(attrs: CollectorAttrs, opt_level: OptLevel) -> Boxes {
    let options = ModuleOptions { keep_text: true, opt_level, ..ModuleOptions::new(attrs) };
    boxes_with(options)
}

pub fn boxes_with(options: ModuleOptions) -> Boxes {
    let mut module = Module::new(options).expect("this machine is supported");
    let mut record = Record::new("box");
    let number = record.scalar("number", 8).expect("eight bytes");
    let layout = module.record(record).expect("a small record");
    Boxes { module, layout, number }
}

pub fn mutator<C: Collector>(module: Module, heap_bytes: usize) -> Mutator<C> {
    let collector = C::new(HeapOptions::new(heap_bytes)).expect("a heap");
    Mutator::new(module, collector).expect("final code")
}

/// The one integer that a call returned.
pub fn int(results: Vec<Val>) -> i64 {
    match results[..] {
        [Val::I64(value)] => value,
        _ => panic!("one i64 expected: {results:?}"),
    }
}

/// Emits a loop that allocates `count` boxes and drops them.
pub fn emit_garbage(e: &mut tospace::jit::Emit, layout: LayoutId, count: i64) {
    let (zero, count) = (e.int(I64, 0), e.int(I64, count));
    e.for_range(zero, count, |e, index| {
        e.new_record(layout, args![index]);
    });
}
