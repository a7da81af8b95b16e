//! Programs of the shapes that Cranelift compiled wrongly before 0.135.4, where only a moving
//! collector, or any collector, could notice.
//!
//! Each program is run as this version of Cranelift compiles it, and once more with the code that an
//! old version made of it, spelled out by hand: to show that the check would notice. The numbers are
//! those of bytecodealliance/wasmtime.

use std::panic::{self, AssertUnwindSafe};

use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, ExceptionTableData, ExceptionTableItem, ExtFuncData, ExternalName,
    FuncRef, Function, Inst, InstBuilder, InstructionData, MemFlagsData, Signature as IrSignature,
    StackSlot, StackSlotData, StackSlotKind, UserExternalName, UserStackMapEntry, Value,
    condcodes::IntCC, types::I64,
};
use cranelift_codegen::isa::CallConv;
use cranelift_codegen::settings::{self, Flags};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::{Field, HeapOptions, Record, RefField};
use tospace::jit::{Emit, Error, Func, Module, ModuleOptions, OptLevel, Signature};
use tospace::{Mutator, args};

use crate::support::int;

/// The number of a node that is thrown, and of one that is returned.
const THROWN: i64 = 9;
const RETURNED: i64 = 2;

/// What the programs are made of: nodes, each with a number that no other has.
#[derive(Clone, Copy)]
struct Parts {
    number: Field,
    next: RefField,
    /// From a number and a reference to a new node, which is thrown if its number is 9. For Cranelift
    /// both references are integers: nothing declares them.
    make: Func,
}

fn parts(module: &mut Module) -> Parts {
    let mut node = Record::new("node");
    let (number, next) = (node.scalar("number", 8).unwrap(), node.reference("next"));
    let node = module.record(node).unwrap();
    let signature = Signature::new([I64.into(); 2], [I64.into()]);
    let make = module.function("make", signature, |e| {
        let (number, next) = (e.param(0), e.param(1));
        let next = e.adopt_ref(next);
        let made = e.new_record(node, args![number, next]);
        let throws = e.ins().icmp_imm_s(IntCC::Equal, number, THROWN);
        e.if_then(throws, |e| e.throw(made));
        e.ret(args![made.value()]);
    });
    Parts { number, next, make: make.unwrap() }
}

/// What emits the body of a program, which takes an integer and gives one.
type Body = fn(&mut Emit, Parts);

fn compile<C: Collector>(
    level: OptLevel,
    body: Body,
    check: bool,
) -> Result<(Module, Func), Error> {
    let options = ModuleOptions { opt_level: level, check, ..ModuleOptions::new(C::ATTRS) };
    let mut module = Module::new(options)?;
    let parts = parts(&mut module);
    let signature = Signature::new([I64.into()], [I64.into()]);
    let program = module.function("program", signature, |e| body(e, parts))?;
    Ok((module, program))
}

/// Runs the program, unchecked, on a heap where each allocation collects, and every collection is
/// verified: what it answers, or the panic's message.
fn run<C: Collector>(level: OptLevel, body: Body, argument: i64) -> Result<i64, String> {
    let (module, program) = compile::<C>(level, body, false).unwrap();
    let collector = C::new(HeapOptions { protect: true, ..HeapOptions::new(1 << 20) }).unwrap();
    let mut mutator = Mutator::new(module, collector).unwrap();
    mutator.set_stress(1);
    mutator.set_verify(true);
    let call =
        AssertUnwindSafe(|| int(mutator.call(program, &[argument.into()]).expect("no trap")));
    panic::catch_unwind(call).map_err(|panic| *panic.downcast::<String>().expect("a message"))
}

const LEVELS: [OptLevel; 2] = [OptLevel::None, OptLevel::Speed];

fn assert_right(body: Body, argument: i64, answer: i64) {
    for level in LEVELS {
        assert!(compile::<Semispace>(level, body, true).is_ok(), "the check finds nothing");
        assert_eq!(run::<Semispace>(level, body, argument), Ok(answer), "semispace, {level:?}");
        assert_eq!(run::<MarkSweep>(level, body, argument), Ok(answer), "mark-sweep, {level:?}");
        assert_eq!(run::<NeverFree>(level, body, argument), Ok(answer), "never-free, {level:?}");
    }
}

/// A reference that was in a map, but used as it was before the call: right as long as nothing moves.
/// The check at definition time finds it.
fn assert_not_reloaded(body: Body, argument: i64, answer: i64) {
    assert_stale(body, argument);
    for level in LEVELS {
        let checked = compile::<Semispace>(level, body, true).map(|_| ());
        assert!(matches!(checked, Err(Error::Check { .. })), "{checked:?}");
        assert_eq!(run::<MarkSweep>(level, body, argument), Ok(answer), "mark-sweep, {level:?}");
    }
}

/// A reference that was in no map: its object is freed as well.
fn assert_lost(body: Body, argument: i64, answer: i64) {
    assert_stale(body, argument);
    for level in LEVELS {
        assert_ne!(run::<MarkSweep>(level, body, argument), Ok(answer), "mark-sweep, {level:?}");
        assert_eq!(run::<NeverFree>(level, body, argument), Ok(answer), "never-free, {level:?}");
    }
}

fn assert_stale(body: Body, argument: i64) {
    for level in LEVELS {
        let message = run::<Semispace>(level, body, argument).expect_err("a stale root");
        assert!(message.ends_with("in the heap, where no live object starts"), "{message}");
    }
}

/// A new node, not declared.
fn make(e: &mut Emit, parts: Parts, number: i64, next: Value) -> Value {
    let number = e.int(I64, number);
    e.call(parts.make, args![number, next]).scalar()
}

/// Ends the program: the digits of its answer are these nodes' numbers, seen after one more
/// collection that they are all roots of.
fn answer(e: &mut Emit, parts: Parts, nodes: &[Value]) {
    // New values, so that those given stay as they are: declared or not.
    let copies: Vec<Value> = nodes.iter().map(|&node| e.ins().iadd_imm_s(node, 0)).collect();
    for &copy in &copies {
        e.adopt_ref(copy);
    }
    e.collect();
    let mut digits = e.int(I64, 0);
    for node in copies {
        digits = append_digit(e, parts, digits, node);
    }
    e.ret(args![digits]);
}

fn append_digit(e: &mut Emit, parts: Parts, digits: Value, node: Value) -> Value {
    let digit = load(e, node, parts.number.offset());
    let digits = e.ins().imul_imm_s(digits, 10);
    e.ins().iadd(digits, digit)
}

fn load(e: &mut Emit, node: Value, offset: u32) -> Value {
    e.ins().load(I64, MemFlagsData::trusted(), node, offset as i32)
}

fn last_inst(e: &mut Emit) -> Inst {
    let builder = e.builder();
    let block = builder.current_block().expect("there is one");
    builder.func.layout.last_inst(block).expect("it is not empty")
}

// What Cranelift does with a declared value, by hand.

fn new_slot(e: &mut Emit) -> StackSlot {
    let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8, 3);
    e.builder().create_sized_stack_slot(data)
}

fn spill(e: &mut Emit, value: Value, slot: StackSlot) {
    let address = e.ins().stack_addr(I64, slot, 0);
    e.ins().store(MemFlagsData::trusted(), value, address, 0);
}

fn reload(e: &mut Emit, slot: StackSlot) -> Value {
    let address = e.ins().stack_addr(I64, slot, 0);
    e.ins().load(I64, MemFlagsData::trusted(), address, 0)
}

/// Puts the slot into the map of a call.
fn map(e: &mut Emit, call: Inst, slot: StackSlot) {
    let entry = UserStackMapEntry { ty: I64, slot, offset: 0 };
    e.builder().func.dfg.append_user_stack_map_entry(call, entry);
}

/// Collects, with this slot in the map.
fn collect_with(e: &mut Emit, slot: StackSlot) {
    e.collect();
    let call = last_inst(e);
    map(e, call, slot);
}

// Calls that may be left by an exception.

struct Try {
    call: Inst,
    /// Where it goes on: after a return, after an exception. Both blocks get what was passed to them,
    /// and the new node.
    blocks: [Block; 2],
}

/// Calls `make` as the call that gave `like` did; the new node's number is the program's argument.
fn try_make(e: &mut Emit, like: Value, passed: &[Value]) -> Try {
    let arguments = [e.context(), e.param(0), e.int(I64, 0)];
    let builder = e.builder();
    let func = callee(builder, like);
    let signature = builder.func.dfg.ext_funcs[func].signature;
    let mut edge = |new: BlockArg| {
        let block = builder.create_block();
        let edge: Vec<BlockArg> = passed.iter().map(|&value| value.into()).chain([new]).collect();
        edge.iter().for_each(|_| _ = builder.append_block_param(block, I64));
        (block, builder.func.dfg.block_call(block, &edge))
    };
    let (returned, to_returned) = edge(BlockArg::TryCallRet(0));
    let (caught, to_caught) = edge(BlockArg::TryCallExn(0));
    let handlers = [ExceptionTableItem::Default(to_caught)];
    let table = ExceptionTableData::new(signature, to_returned, handlers);
    let table = builder.func.dfg.exception_tables.push(table);
    let call = builder.ins().try_call(func, &arguments, table);
    let blocks = [returned, caught];
    blocks.into_iter().for_each(|block| builder.seal_block(block));
    Try { call, blocks }
}

/// Goes on in a block; its parameters.
fn enter(e: &mut Emit, block: Block) -> Vec<Value> {
    e.builder().switch_to_block(block);
    e.builder().block_params(block).to_vec()
}

/// What the call that gave `result` calls.
fn callee(builder: &FunctionBuilder, result: Value) -> FuncRef {
    let dfg = &builder.func.dfg;
    match dfg.insts[dfg.value_def(result).unwrap_inst()] {
        InstructionData::Call { func_ref, .. } => func_ref,
        ref other => panic!("{other:?} is no call"),
    }
}

/// 12934: lowering dropped the map of a call that is also a branch.
#[test]
fn try_call_keeps_its_map() {
    fn new(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let held = make(e, parts, 1, null);
        e.adopt_ref(held);
        for block in try_make(e, held, &[]).blocks {
            let made = enter(e, block)[0];
            e.adopt_ref(made);
            answer(e, parts, &[held, made]);
        }
    }
    fn old(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let held = make(e, parts, 1, null);
        let slot = new_slot(e);
        spill(e, held, slot);
        for block in try_make(e, held, &[]).blocks {
            let made = enter(e, block)[0];
            let held = reload(e, slot);
            answer(e, parts, &[held, made]);
        }
    }
    for (argument, expected) in [(RETURNED, 12), (THROWN, 19)] {
        assert_right(new, argument, expected);
        assert_lost(old, argument, expected);
    }
}

/// 14452: what a `try_call` passes to the blocks after it was loaded before it.
#[test]
fn try_call_passes_what_is_reloaded_after_it() {
    fn new(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let held = make(e, parts, 1, null);
        e.adopt_ref(held);
        for block in try_make(e, held, &[held]).blocks {
            let passed = enter(e, block);
            passed.iter().for_each(|&value| _ = e.adopt_ref(value));
            answer(e, parts, &passed);
        }
    }
    fn old(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let held = make(e, parts, 1, null);
        let slot = new_slot(e);
        spill(e, held, slot);
        let too_early = reload(e, slot);
        let Try { call, blocks } = try_make(e, held, &[too_early]);
        map(e, call, slot);
        for block in blocks {
            let passed = enter(e, block);
            answer(e, parts, &passed);
        }
    }
    for (argument, expected) in [(RETURNED, 12), (THROWN, 19)] {
        assert_right(new, argument, expected);
        assert_not_reloaded(old, argument, expected);
    }
}

/// How a variable that holds a reference is declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Declared {
    /// The variable is.
    Variable,
    /// What `use_var` gave is, when the block did not have all its predecessors yet.
    UseInOpenBlock,
    /// What `use_var` gave is, when the block had them all.
    UseInSealedBlock,
}

/// Two ways to a block at which a variable has the same value: `held`. The block, which is still
/// open unless it has to be sealed, and what the variable is there: a parameter that turns out to be
/// superfluous when the block is sealed, and then becomes an alias of `held`.
fn join(
    builder: &mut FunctionBuilder,
    condition: Value,
    held: Value,
    declared: Declared,
) -> (Block, Value) {
    let variable = builder.declare_var(I64);
    if declared == Declared::Variable {
        builder.declare_var_needs_stack_map(variable);
    }
    builder.def_var(variable, held);
    let (detour, join) = (builder.create_block(), builder.create_block());
    builder.ins().brif(condition, detour, &[], join, &[]);
    builder.seal_block(detour);
    builder.switch_to_block(detour);
    builder.def_var(variable, held);
    builder.ins().jump(join, &[]);
    builder.switch_to_block(join);
    if declared == Declared::UseInSealedBlock {
        builder.seal_block(join);
    }
    let used = builder.use_var(variable);
    if declared != Declared::Variable {
        builder.declare_value_needs_stack_map(used);
    }
    (join, used)
}

/// Holds a node over a collection in such a variable.
fn hold_in_variable(e: &mut Emit, parts: Parts, declared: Declared) {
    let (condition, null) = (e.param(0), e.int(I64, 0));
    let held = make(e, parts, 1, null);
    let (block, used) = join(e.builder(), condition, held, declared);
    e.collect();
    if declared != Declared::UseInSealedBlock {
        e.builder().seal_block(block);
        assert!(e.builder().func.dfg.value_is_alias(used), "or the shape is not the one meant");
    }
    answer(e, parts, &[used]);
}

/// 13228: a use through an alias of a declared value was not reloaded.
#[test]
fn uses_through_aliases_are_reloaded() {
    fn old(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let held = make(e, parts, 1, null);
        let slot = new_slot(e);
        spill(e, held, slot);
        collect_with(e, slot);
        answer(e, parts, &[held]);
    }
    assert_right(|e, parts| hold_in_variable(e, parts, Declared::Variable), 1, 1);
    assert_not_reloaded(old, 1, 1);
}

/// Not mended: whoever declares what `use_var` gives in an open block declares nothing at all.
#[test]
fn an_alias_that_is_declared_is_lost() {
    assert_right(|e, parts| hold_in_variable(e, parts, Declared::UseInSealedBlock), 1, 1);
    assert_lost(|e, parts| hold_in_variable(e, parts, Declared::UseInOpenBlock), 1, 1);

    assert_eq!(entries_of_a_call(Declared::Variable), 1);
    assert_eq!(entries_of_a_call(Declared::UseInSealedBlock), 1);
    assert_eq!(entries_of_a_call(Declared::UseInOpenBlock), 0, "mended? then say so in the docs");
}

/// The number of entries that Cranelift puts into the map of a call that a variable is held over.
fn entries_of_a_call(declared: Declared) -> usize {
    let mut signature = IrSignature::new(CallConv::Tail);
    signature.params.extend([AbiParam::new(I64); 2]);
    signature.returns.push(AbiParam::new(I64));
    let mut function = Function::new();
    function.signature = signature;
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let name = UserExternalName { namespace: 0, index: 0 };
    let name = builder.func.declare_imported_user_function(name);
    let signature = builder.import_signature(IrSignature::new(CallConv::Tail));
    let collect = builder.import_function(ExtFuncData {
        name: ExternalName::user(name),
        signature,
        colocated: true,
        patchable: false,
    });

    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let &[condition, held] = builder.block_params(entry) else { unreachable!() };
    let (_, used) = join(&mut builder, condition, held, declared);
    let call = builder.ins().call(collect, &[]);
    builder.ins().return_(&[used]);
    builder.seal_all_blocks();
    let flags = Flags::new(settings::builder());
    let isa = cranelift_native::builder().unwrap().finish(flags).unwrap();
    builder.finalize(isa.frontend_config());
    function.dfg.user_stack_map_entries(call).map_or(0, <[_]>::len)
}

/// 13449: of the definitions of a variable in one block, only the last one was in maps.
#[test]
fn a_variable_is_defined_twice_in_a_block() {
    fn new(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let variable = e.builder().declare_var(I64);
        e.builder().declare_var_needs_stack_map(variable);
        let first = make(e, parts, 1, null);
        e.builder().def_var(variable, first);
        let first = e.builder().use_var(variable);
        let second = make(e, parts, 2, null);
        e.builder().def_var(variable, second);
        let second = e.builder().use_var(variable);
        e.collect();
        answer(e, parts, &[first, second]);
    }
    fn old(e: &mut Emit, parts: Parts) {
        let null = e.int(I64, 0);
        let first = make(e, parts, 1, null);
        let second = make(e, parts, 2, null);
        e.adopt_ref(second);
        e.collect();
        answer(e, parts, &[first, second]);
    }
    assert_right(new, 1, 12);
    assert_lost(old, 1, 12);
}

/// Three nodes, from the first to the third; the first of them.
fn make_list(e: &mut Emit, parts: Parts) -> Value {
    let mut list = e.int(I64, 0);
    for number in [3, 2, 1] {
        list = make(e, parts, number, list);
    }
    list
}

/// Emits a loop of two rounds, which is one block, and what follows it. `body` gets the digits so far;
/// gives new ones, and whatever else `after` needs.
fn two_rounds<T>(
    e: &mut Emit,
    body: impl FnOnce(&mut Emit, Value) -> (Value, T),
    after: impl FnOnce(&mut Emit, Value, T),
) {
    let (zero, rounds) = (e.int(I64, 0), e.int(I64, 2));
    let builder = e.builder();
    let (round, end) = (builder.create_block(), builder.create_block());
    let left = builder.append_block_param(round, I64);
    let digits = builder.append_block_param(round, I64);
    builder.ins().jump(round, &[rounds.into(), zero.into()]);
    builder.switch_to_block(round);
    let (digits, made) = body(e, digits);
    let builder = e.builder();
    let left = builder.ins().iadd_imm_s(left, -1);
    builder.ins().brif(left, round, &[left.into(), digits.into()], end, &[]);
    builder.seal_block(round);
    builder.seal_block(end);
    builder.switch_to_block(end);
    after(e, digits, made);
}

/// 13461, mended by 13498: a slot was shared by a reference that is live all through a loop and one
/// that is loaded at the end of each round, and live over a call after the loop.
#[test]
fn a_loop_shares_no_slot_with_what_it_loads() {
    fn new(e: &mut Emit, parts: Parts) {
        let first = make_list(e, parts);
        e.adopt_ref(first);
        let body = |e: &mut Emit, digits| {
            e.collect();
            let digits = append_digit(e, parts, digits, first);
            let second = load(e, first, parts.next.offset());
            e.adopt_ref(second);
            (digits, second)
        };
        two_rounds(e, body, |e, digits, second| {
            e.collect();
            let digits = append_digit(e, parts, digits, second);
            e.ret(args![digits]);
        });
    }
    fn old(e: &mut Emit, parts: Parts) {
        let (first, slot) = (make_list(e, parts), new_slot(e));
        spill(e, first, slot);
        let body = |e: &mut Emit, digits| {
            collect_with(e, slot);
            let first = reload(e, slot);
            let digits = append_digit(e, parts, digits, first);
            let second = load(e, first, parts.next.offset());
            spill(e, second, slot);
            (digits, ())
        };
        two_rounds(e, body, |e, digits, ()| {
            collect_with(e, slot);
            let second = reload(e, slot);
            let digits = append_digit(e, parts, digits, second);
            e.ret(args![digits]);
        });
    }
    assert_right(new, 1, 112);
    for level in LEVELS {
        assert_eq!(run::<Semispace>(level, old, 1), Ok(123), "semispace, {level:?}");
        assert_eq!(run::<NeverFree>(level, old, 1), Ok(123), "never-free, {level:?}");
    }
}
