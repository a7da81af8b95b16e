//! The two ends of an activation, in CLIF.
//!
//! An **entry trampoline** has the host's calling convention. It keeps the activation record in its
//! own frame, links it into the context, loads the arguments, and calls the function by `try_call`,
//! whose handler is where an abrupt exit lands. There is one for each signature.
//!
//! An **exit trampoline** has the signature of the host function that it calls, in the convention of
//! compiled code. It notes the FP and the return address of its caller, the newest compiled frame,
//! in the activation record. The walk starts there. A raw host function gets the arguments in
//! registers, as C passes them; a checked one, an array of words, one for each argument or result.

use cranelift_codegen::ir::{
    Block, BlockArg, ExceptionTableData, ExceptionTableItem, FuncRef, Function, GlobalValue,
    GlobalValueData, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types::I64,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;

use super::context::{Context, offset};
use super::module::CALL_HOST;
use super::types::{Signature, Ty, WORD_TYPE};
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

/// How an exit trampoline passes on what it is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passing {
    /// By the C ABI, to host function `number`.
    Raw { number: usize },
    /// As an array of words, to host function [`CALL_HOST`], which finds closure `number`.
    Words { number: usize },
}

/// Builds the body of the exit trampoline for host functions with `signature`.
pub(super) fn build_exit(
    builder: &mut FunctionBuilder,
    signature: &Signature,
    passing: Passing,
    stub: Option<FuncRef>,
) {
    let entry = start(builder);
    let arguments = builder.block_params(entry).to_vec();
    let context = arguments[0];
    if let Some(stub) = stub {
        save_registers(builder, stub, context);
    }

    let fp = builder.ins().get_frame_pointer(WORD_TYPE);
    let exit_fp = builder.ins().load(WORD_TYPE, FLAGS, fp, 0);
    let exit_pc = builder.ins().get_return_address(WORD_TYPE);
    let record = builder.ins().load(WORD_TYPE, FLAGS, context, offset!(Context, activation));
    builder.ins().store(FLAGS, exit_fp, record, offset!(Activation, exit_fp));
    builder.ins().store(FLAGS, exit_pc, record, offset!(Activation, exit_pc));
    if stub.is_some() {
        let sp = builder.ins().get_stack_pointer(WORD_TYPE);
        builder.ins().store(FLAGS, sp, record, offset!(Activation, exit_sp));
        builder.ins().store(FLAGS, fp, record, offset!(Activation, trampoline_fp));
    }

    let results = match passing {
        Passing::Raw { number } => {
            let host = load_host_function(builder, context, number);
            let host_signature = builder.import_signature(signature.ir(CallConv::SystemV));
            let call = builder.ins().call_indirect(host_signature, host, &arguments);
            builder.inst_results(call).to_vec()
        }
        Passing::Words { number } => pass_words(builder, signature, number, &arguments),
    };
    builder.ins().return_(&results);
}

/// Makes the prologue save all callee-saved registers in this frame, where the detector of missed
/// roots finds them: the exceptional edge of a call of a `tail` function clobbers every one.
fn save_registers(builder: &mut FunctionBuilder, stub: FuncRef, context: Value) {
    let go_on = builder.create_block();
    let signature = builder.func.dfg.ext_funcs[stub].signature;
    let [normal, handler] = [(); 2].map(|()| builder.func.dfg.block_call(go_on, &[]));
    let handlers = [ExceptionTableItem::Default(handler)];
    let table = ExceptionTableData::new(signature, normal, handlers);
    let table = builder.func.dfg.exception_tables.push(table);
    builder.ins().try_call(stub, &[context], table);
    builder.switch_to_block(go_on);
}

/// Builds the body of a function that does nothing, for [`save_registers`] to call.
pub(super) fn build_stub(builder: &mut FunctionBuilder) {
    start(builder);
    builder.ins().return_(&[]);
}

fn load_host_function(builder: &mut FunctionBuilder, context: Value, number: usize) -> Value {
    // Addresses of host functions are data, not code: code is the same wherever the host lies.
    let table = builder.ins().load(WORD_TYPE, FLAGS, context, offset!(Context, host_functions));
    builder.ins().load(WORD_TYPE, FLAGS, table, word_at(number))
}

fn pass_words(
    builder: &mut FunctionBuilder,
    signature: &Signature,
    number: usize,
    arguments: &[Value],
) -> Vec<Value> {
    let count = signature.params.len().max(signature.results.len());
    let words = StackSlotData::new(StackSlotKind::ExplicitSlot, (count * WORD) as u32, 3);
    let words = builder.create_sized_stack_slot(words);
    let words = builder.ins().stack_addr(WORD_TYPE, words, 0);
    for (index, &argument) in arguments[1..].iter().enumerate() {
        builder.ins().store(FLAGS, argument, words, word_at(index));
    }
    let host = load_host_function(builder, arguments[0], CALL_HOST.number());
    let takes = Signature::new([WORD_TYPE.into(); 2], []);
    let takes = builder.import_signature(takes.ir(CallConv::SystemV));
    let number = builder.ins().iconst(WORD_TYPE, number as i64);
    builder.ins().call_indirect(takes, host, &[arguments[0], number, words]);
    let load =
        |(index, ty): (usize, &Ty)| builder.ins().load(ty.ir(), FLAGS, words, word_at(index));
    signature.results.iter().enumerate().map(load).collect()
}

/// What an exit trampoline's prologue compares SP with: the host needs some stack, too.
pub(super) fn stack_limit(function: &mut Function) -> GlobalValue {
    let context = function.create_global_value(GlobalValueData::VMContext);
    let flags = function.dfg.mem_flags.insert(FLAGS).expect("the function has no others yet");
    let offset = offset!(Context, stack_limit).into();
    let load = GlobalValueData::Load { base: context, offset, global_type: WORD_TYPE, flags };
    function.create_global_value(load)
}

/// Where word `index` of an array of words is.
fn word_at(index: usize) -> i32 {
    (index * WORD) as i32
}

fn start(builder: &mut FunctionBuilder) -> Block {
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    entry
}
