//! The smallest use of the crate: a compiled function makes a list in a heap far too small for its
//! garbage, and adds it up again. `cargo run --release --example hello_gc`

use tospace::collector::{Collector, Semispace};
use tospace::cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::heap::{HeapOptions, Record};
use tospace::jit::{Module, ModuleOptions, Signature};
use tospace::{Mutator, Val, args};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut module = Module::new(ModuleOptions::new(Semispace::ATTRS))?;
    let mut pair = Record::new("pair");
    let (head, tail) = (pair.scalar("head", 8)?, pair.reference("tail"));
    let pair = module.record(pair)?;

    let sum = module.function("sum", Signature::new([I64.into()], [I64.into()]), |e| {
        let (zero, count, null) = (e.int(I64, 0), e.param(0), e.null());
        let list = e.ref_var(null);
        e.for_range(zero, count, |e, number| {
            let rest = e.get_ref(list);
            let longer = e.new_record(pair, args![number, rest]);
            for _ in 0..10 {
                e.new_record(pair, args![number, rest]); // garbage
            }
            e.set_ref(list, longer);
        });
        let total = e.var(zero);
        e.while_loop(
            |e| {
                let rest = e.get_ref(list);
                e.is_present(rest)
            },
            |e| {
                let first = e.get_ref(list);
                let (so_far, number) = (e.get(total), e.load(first, head, I64));
                let so_far = e.ins().iadd(so_far, number);
                e.set(total, so_far);
                let rest = e.load_ref(first, tail);
                e.set_ref(list, rest);
            },
        );
        let total = e.get(total);
        e.ret(args![total]);
    })?;

    let collector = Semispace::new(HeapOptions::new(1 << 20))?;
    let mut mutator = Mutator::new(module, collector)?;
    let result = mutator.call(sum, &[Val::I64(20_000)])?;
    let statistics = mutator.statistics();
    println!("the sum is {result:?}");
    println!(
        "{} bytes allocated in a heap of {}: {} collections moved {} objects",
        statistics.usage.allocated_bytes,
        statistics.usage.heap_bytes,
        statistics.collections,
        statistics.total.copied_objects
    );
    Ok(())
}
