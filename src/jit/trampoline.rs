//! The two ends of an activation, in CLIF.
//!
//! An **entry trampoline** has the host's calling convention. It keeps the activation record in its
//! own frame, links it into the context, loads the arguments, and calls the function by `try_call`,
//! whose handler is where an abrupt exit lands. There is one for each signature.
//!
//! An **exit trampoline** has the signature of the host function that it calls, in the convention of
//! compiled code. It notes the FP and the return address of its caller, the newest compiled frame,
//! in the activation record. The walk starts there.

use cranelift_codegen::ir::{
    Block, BlockArg, ExceptionTableData, ExceptionTableItem, InstBuilder, MemFlagsData,
    StackSlotData, StackSlotKind, Value, types::I64,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;

use super::context::{Context, offset};
use super::types::{Signature, WORD_TYPE};
use crate::heap::WORD;
use crate::stack::{Activation, Landing};

/// What an entry trampoline returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Outcome {
    /// The function returned; its results are where the arguments were.
    Returned = 0,
    /// The activation was abandoned.
    Abandoned = 1,
}

/// An entry trampoline: the context, how to leave, the function's address, and one word for each
/// argument or result, whichever are more.
pub type EntryTrampoline =
    unsafe extern "C" fn(*mut Context, *const Landing, *const u8, *mut u64) -> Outcome;

/// The number of an entry trampoline's parameters, each a word.
pub(super) const ENTRY_PARAMS: usize = 4;

const FLAGS: MemFlagsData = MemFlagsData::trusted();

/// Builds the body of the entry trampoline for functions with `signature`.
pub(super) fn build_entry(builder: &mut FunctionBuilder, signature: &Signature) {
    let entry = start(builder);
    let &[context, landing, callee, words] = builder.block_params(entry) else {
        unreachable!("an entry trampoline has four parameters")
    };

    let record = StackSlotData::new(StackSlotKind::ExplicitSlot, size_of::<Activation>() as u32, 3);
    let record = builder.create_sized_stack_slot(record);
    let record = builder.ins().stack_addr(WORD_TYPE, record, 0);
    let fp = builder.ins().get_frame_pointer(WORD_TYPE);
    let previous = builder.ins().load(WORD_TYPE, FLAGS, context, offset!(Context, activation));
    for (value, at) in [
        (previous, offset!(Activation, previous)),
        (fp, offset!(Activation, entry_fp)),
        (fp, offset!(Activation, exit_fp)),
        (landing, offset!(Activation, landing)),
    ] {
        builder.ins().store(FLAGS, value, record, at);
    }
    builder.ins().store(FLAGS, record, context, offset!(Context, activation));

    let word_at = |index: usize| (index * WORD) as i32;
    let mut arguments = vec![context];
    for (index, ty) in signature.params.iter().enumerate() {
        arguments.push(builder.ins().load(ty.ir(), FLAGS, words, word_at(index)));
    }

    let (returned, abandoned) = (builder.create_block(), builder.create_block());
    let results: Vec<Value> =
        signature.results.iter().map(|ty| builder.append_block_param(returned, ty.ir())).collect();
    // The two words that the unwinder hands to a handler; not used.
    (0..2).for_each(|_| _ = builder.append_block_param(abandoned, WORD_TYPE));

    let callee_signature = builder.import_signature(signature.ir(CallConv::Tail));
    let pool = &mut builder.func.dfg;
    let normal: Vec<_> = (0..results.len() as u32).map(BlockArg::TryCallRet).collect();
    let normal = pool.block_call(returned, &normal);
    let handler = pool.block_call(abandoned, &[BlockArg::TryCallExn(0), BlockArg::TryCallExn(1)]);
    let table =
        ExceptionTableData::new(callee_signature, normal, [ExceptionTableItem::Default(handler)]);
    let table = pool.exception_tables.push(table);
    builder.ins().try_call_indirect(callee, &arguments, table);

    builder.switch_to_block(returned);
    for (index, &result) in results.iter().enumerate() {
        builder.ins().store(FLAGS, result, words, word_at(index));
    }
    leave(builder, context, record, Outcome::Returned);
    builder.switch_to_block(abandoned);
    leave(builder, context, record, Outcome::Abandoned);
}

/// Unlinks the activation and returns to the host.
fn leave(builder: &mut FunctionBuilder, context: Value, record: Value, outcome: Outcome) {
    let previous = builder.ins().load(WORD_TYPE, FLAGS, record, offset!(Activation, previous));
    builder.ins().store(FLAGS, previous, context, offset!(Context, activation));
    let outcome = builder.ins().iconst(I64, outcome as i64);
    builder.ins().return_(&[outcome]);
}

/// Builds the body of the exit trampoline to host function `number` with `signature`.
pub(super) fn build_exit(builder: &mut FunctionBuilder, signature: &Signature, number: usize) {
    let entry = start(builder);
    let arguments = builder.block_params(entry).to_vec();
    let context = arguments[0];

    let fp = builder.ins().get_frame_pointer(WORD_TYPE);
    let exit_fp = builder.ins().load(WORD_TYPE, FLAGS, fp, 0);
    let exit_pc = builder.ins().get_return_address(WORD_TYPE);
    let record = builder.ins().load(WORD_TYPE, FLAGS, context, offset!(Context, activation));
    builder.ins().store(FLAGS, exit_fp, record, offset!(Activation, exit_fp));
    builder.ins().store(FLAGS, exit_pc, record, offset!(Activation, exit_pc));

    // Addresses of host functions are data, not code: code is the same wherever the host lies.
    let table = builder.ins().load(WORD_TYPE, FLAGS, context, offset!(Context, host_functions));
    let host = builder.ins().load(WORD_TYPE, FLAGS, table, (number * WORD) as i32);
    let host_signature = builder.import_signature(signature.ir(CallConv::SystemV));
    let call = builder.ins().call_indirect(host_signature, host, &arguments);
    let results = builder.inst_results(call).to_vec();
    builder.ins().return_(&results);
}

fn start(builder: &mut FunctionBuilder) -> Block {
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    entry
}
