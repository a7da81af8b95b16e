//! The check at definition time, on code that a builder made: it agrees with Cranelift's own analysis
//! about what crosses a safepoint, and a module refuses a function that it finds something in.

use cranelift_codegen::ir::{
    AbiParam, BlockArg, ExceptionTableData, ExceptionTableItem, ExtFuncData, ExternalName, FuncRef,
    Function, InstBuilder, MemFlagsData, Signature as IrSignature, UserExternalName, Value,
    types::I64,
};
use cranelift_codegen::isa::CallConv;
use cranelift_codegen::settings::{self, Flags};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use proptest::collection::vec;
use proptest::prelude::*;
use tospace::Val;
use tospace::args;
use tospace::collector::{Collector, Semispace};
use tospace::heap::HeapOptions;
use tospace::jit::{Emit, Error, FindingKind, Module, ModuleOptions, REF, Signature, check};

fn signature(params: usize, results: usize) -> IrSignature {
    let mut signature = IrSignature::new(CallConv::Tail);
    signature.params = vec![AbiParam::new(I64); params];
    signature.returns = vec![AbiParam::new(I64); results];
    signature
}

/// A function to call.
fn callee(builder: &mut FunctionBuilder, params: usize, results: usize) -> FuncRef {
    let signature = builder.import_signature(signature(params, results));
    let index = (params * 2 + results) as u32;
    let name = UserExternalName { namespace: 0, index };
    let name = ExternalName::user(builder.func.declare_imported_user_function(name));
    builder.import_function(ExtFuncData { name, signature, colocated: false, patchable: false })
}

/// A function of two words that `body` builds, and the values that `body` says are references.
fn build(
    body: impl FnOnce(&mut FunctionBuilder, [Value; 2]) -> Vec<Value>,
) -> (Function, Vec<Value>) {
    let (mut function, mut context) = (Function::new(), FunctionBuilderContext::new());
    function.signature = signature(2, 1);
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let params = [builder.block_params(entry)[0], builder.block_params(entry)[1]];
    let references = body(&mut builder, params);
    builder.seal_all_blocks();
    let isa = cranelift_native::builder().unwrap().finish(Flags::new(settings::builder())).unwrap();
    builder.finalize(isa.frontend_config());
    (function, references)
}

fn kinds(body: impl FnOnce(&mut FunctionBuilder, [Value; 2]) -> Vec<Value>) -> Vec<FindingKind> {
    let (function, references) = build(body);
    check(&function, references).into_iter().map(|finding| finding.kind).collect()
}

/// Whether the value or its variable is declared, and if, when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declared {
    No,
    Value,
    Variable,
}

/// `use_var` in a block that is not sealed yet gives a parameter, which becomes an alias when there
/// turns out to be one definition; what was declared of it is lost then.
#[test]
fn a_declaration_that_is_lost_with_an_alias() {
    for (declared, found) in [
        (Declared::No, &[FindingKind::Reference][..]),
        (Declared::Value, &[FindingKind::Reference]),
        (Declared::Variable, &[]),
    ] {
        let kinds = kinds(|builder, [reference, number]| {
            let variable = builder.declare_var(I64);
            if declared == Declared::Variable {
                builder.declare_var_needs_stack_map(variable);
            }
            builder.def_var(variable, reference);
            let header = builder.create_block();
            let after = builder.create_block();
            builder.ins().jump(header, &[]);
            builder.switch_to_block(header);
            let value = builder.use_var(variable);
            if declared == Declared::Value {
                builder.declare_value_needs_stack_map(value);
            }
            let take = callee(builder, 1, 0);
            builder.ins().call(take, &[value]);
            builder.ins().brif(number, header, &[], after, &[]);
            builder.switch_to_block(after);
            builder.ins().return_(&[number]);
            vec![value]
        });
        assert_eq!(kinds, found);
    }
}

#[test]
fn a_parameter_that_is_declared_or_forgotten() {
    for declared in [false, true] {
        let kinds = kinds(|builder, [reference, number]| {
            builder.declare_value_needs_stack_map(reference);
            let (take, give) = (callee(builder, 1, 0), callee(builder, 0, 1));
            let (other, join) = (builder.create_block(), builder.create_block());
            let param = builder.append_block_param(join, I64);
            if declared {
                builder.declare_value_needs_stack_map(param);
            }
            let arg = [BlockArg::Value(reference)];
            builder.ins().brif(number, join, &arg, other, &[]);
            builder.switch_to_block(other);
            let call = builder.ins().call(give, &[]);
            let given = builder.inst_results(call)[0];
            builder.ins().jump(join, &[BlockArg::Value(given)]);
            builder.switch_to_block(join);
            builder.ins().call(take, &[param]);
            builder.ins().return_(&[param]);
            vec![reference]
        });
        assert_eq!(kinds, if declared { &[][..] } else { &[FindingKind::Reference] });
    }
}

#[test]
fn an_address_that_is_computed_before_or_after_a_call() {
    for before in [true, false] {
        let kinds = kinds(|builder, [reference, number]| {
            builder.declare_value_needs_stack_map(reference);
            let early = builder.ins().iadd(reference, number);
            let take = callee(builder, 1, 0);
            builder.ins().call(take, &[early]);
            let late = builder.ins().iadd(reference, number);
            let address = if before { early } else { late };
            let element = builder.ins().load(I64, MemFlagsData::trusted(), address, 8);
            builder.ins().return_(&[element]);
            vec![reference]
        });
        assert_eq!(kinds, if before { &[FindingKind::Derived][..] } else { &[] });
    }
}

/// Something that a block does with one of a few variables.
#[derive(Clone, Copy, Debug)]
enum Step {
    Define(usize),
    Use(usize),
    Call,
}

/// How a block ends, and where it goes on.
#[derive(Clone, Copy, Debug)]
enum End {
    Jump(usize),
    Branch(usize, usize),
    Try(usize, usize),
    Return,
}

const VARIABLES: usize = 3;
const BLOCKS: usize = 6;

fn program() -> impl Strategy<Value = Vec<(Vec<Step>, End)>> {
    let variable = || 0..VARIABLES;
    let step = prop_oneof![
        variable().prop_map(Step::Define),
        variable().prop_map(Step::Use),
        Just(Step::Call),
    ];
    let block = || 0..BLOCKS;
    let end = prop_oneof![
        block().prop_map(End::Jump),
        (block(), block()).prop_map(|(yes, no)| End::Branch(yes, no)),
        (block(), block()).prop_map(|(normal, handler)| End::Try(normal, handler)),
        Just(End::Return),
    ];
    vec((vec(step, 0..4), end), BLOCKS)
}

/// Builds a program with variables that are declared or not.
fn build_program(program: &[(Vec<Step>, End)], declared: bool) -> (Function, Vec<Value>) {
    build(|builder, [_, number]| {
        let (nothing, take, give) =
            (callee(builder, 0, 0), callee(builder, 1, 0), callee(builder, 0, 1));
        let mut references = Vec::new();
        let define = |builder: &mut FunctionBuilder, variable: Variable| {
            let call = builder.ins().call(give, &[]);
            let value = builder.inst_results(call)[0];
            builder.def_var(variable, value);
            value
        };
        let variables: Vec<Variable> = (0..VARIABLES).map(|_| builder.declare_var(I64)).collect();
        for &variable in &variables {
            if declared {
                builder.declare_var_needs_stack_map(variable);
            }
            references.push(define(builder, variable));
        }
        let blocks: Vec<_> = program.iter().map(|_| builder.create_block()).collect();
        builder.ins().jump(blocks[0], &[]);
        for (&block, (steps, end)) in blocks.iter().zip(program) {
            builder.switch_to_block(block);
            for &step in steps {
                match step {
                    Step::Define(variable) => references.push(define(builder, variables[variable])),
                    Step::Use(variable) => {
                        let value = builder.use_var(variables[variable]);
                        references.push(value);
                        builder.ins().call(take, &[value]);
                    }
                    Step::Call => _ = builder.ins().call(nothing, &[]),
                }
            }
            match *end {
                End::Jump(to) => _ = builder.ins().jump(blocks[to], &[]),
                End::Branch(yes, no) => {
                    builder.ins().brif(number, blocks[yes], &[], blocks[no], &[]);
                }
                End::Try(normal, handler) => {
                    let signature = builder.func.dfg.ext_funcs[nothing].signature;
                    let dfg = &mut builder.func.dfg;
                    let normal = dfg.block_call(blocks[normal], &[]);
                    let handler = dfg.block_call(blocks[handler], &[]);
                    let items = [ExceptionTableItem::Default(handler)];
                    let table = ExceptionTableData::new(signature, normal, items);
                    let table = dfg.exception_tables.push(table);
                    builder.ins().try_call(nothing, &[], table);
                }
                End::Return => _ = builder.ins().return_(&[number]),
            }
        }
        references
    })
}

proptest! {
    /// Where variables are declared, nothing is found. Where none is, at each call as many references
    /// are found as Cranelift puts in the map of the same call if they are.
    #[test]
    fn agrees_with_cranelift(program in program()) {
        let (declared, references) = build_program(&program, true);
        prop_assert_eq!(check(&declared, references), []);
        let (undeclared, references) = build_program(&program, false);
        let findings = check(&undeclared, references);
        prop_assert!(findings.iter().all(|finding| finding.kind == FindingKind::Reference));
        let calls = |function: &Function| {
            let blocks = function.layout.blocks();
            let insts = blocks.flat_map(|block| function.layout.block_insts(block));
            insts.filter(|&inst| function.dfg.insts[inst].opcode().is_safepoint()).collect::<Vec<_>>()
        };
        let mapped = calls(&declared).into_iter().map(|call| {
            declared.dfg.user_stack_map_entries(call).map_or(0, <[_]>::len)
        });
        let found = calls(&undeclared).into_iter().map(|call| {
            findings.iter().filter(|finding| finding.inst == call).count()
        });
        prop_assert_eq!(found.collect::<Vec<_>>(), mapped.collect::<Vec<_>>());
    }
}

/// Emits a function that keeps the address of an element over a collection, or computes it again.
fn emit_element(e: &mut Emit, again: bool) {
    let context = e.context();
    let raw = e.ins().load(I64, MemFlagsData::trusted(), context, 0);
    e.adopt_ref(raw);
    let mut element = e.ins().iadd_imm_s(raw, 16);
    e.collect();
    if again {
        element = e.ins().iadd_imm_s(raw, 16);
    }
    let loaded = e.ins().load(I64, MemFlagsData::trusted(), element, 0);
    e.ret(args![loaded]);
}

#[test]
fn a_module_refuses_what_the_check_finds() {
    let options = ModuleOptions { check: true, ..ModuleOptions::new(Semispace::ATTRS) };
    let mut module = Module::new(options).unwrap();
    let element = module.declare("element", Signature::new([], [I64.into()])).unwrap();
    let error = module.define(element, |e| emit_element(e, false)).expect_err("a derived pointer");
    let Error::Check { function, findings } = &error else { panic!("{error}") };
    assert_eq!(function, "element");
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].kind, FindingKind::Derived);
    let text = format!("function `element` would not survive a collection:\n- {}", findings[0]);
    assert_eq!(error.to_string(), text);
    // It can be mended, and others are not affected.
    module.define(element, |e| emit_element(e, true)).unwrap();
    let nine = module
        .function("nine", Signature::new([], [I64.into()]), |e| {
            let nine = e.int(I64, 9);
            e.ret(args![nine]);
        })
        .unwrap();
    let collector = Semispace::new(HeapOptions::new(1 << 20)).unwrap();
    let mut mutator = tospace::Mutator::new(module, collector).unwrap();
    assert_eq!(mutator.call(nine, &[]), Ok(vec![Val::I64(9)]));
}

/// What others give is looked at whether it is declared or not. An immediate, which is computed, may
/// go undeclared.
#[test]
fn references_that_are_not_declared() {
    let options = ModuleOptions { check: true, ..ModuleOptions::new(Semispace::ATTRS) };
    let mut module = Module::new(options).unwrap();
    let signature = || Signature::new([I64.into()], [REF]);
    let mut over_a_collection = |value: fn(&mut Emit) -> Value| {
        let made = module.function("keeps", signature(), |e| {
            let value = value(e);
            let reference = e.undeclared_ref(value);
            e.collect();
            e.ret(args![reference]);
        });
        made.map(|_| ()).map_err(|error| match error {
            Error::Check { findings, .. } => findings[0].kind,
            error => panic!("{error}"),
        })
    };
    let reference = Err(FindingKind::Reference);
    assert_eq!(over_a_collection(|e| e.param(0)), reference);
    let loaded = |e: &mut Emit| {
        let context = e.context();
        e.ins().load(I64, MemFlagsData::trusted(), context, 0)
    };
    assert_eq!(over_a_collection(loaded), reference);
    let immediate = |e: &mut Emit| {
        let number = e.param(0);
        let shifted = e.ins().ishl_imm_u(number, 3);
        e.ins().bor_imm_u(shifted, 1)
    };
    assert_eq!(over_a_collection(immediate), Ok(()));
    assert_eq!(over_a_collection(|e| e.int(I64, 0)), Ok(()));
}

#[test]
fn a_module_that_does_not_check() {
    let options = ModuleOptions { check: false, ..ModuleOptions::new(Semispace::ATTRS) };
    let mut module = Module::new(options).unwrap();
    let signature = Signature::new([], [I64.into()]);
    module.function("element", signature, |e| emit_element(e, false)).unwrap();
    assert_eq!(ModuleOptions::new(Semispace::ATTRS).check, cfg!(debug_assertions));
}
