//! From a program to compiled code.

mod expr;
mod stmt;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tospace::args;
use tospace::cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, condcodes::IntCC, types};
use tospace::heap::LayoutError;
use tospace::jit::{self, Arg, Emit, Func, Global, Module, ModuleOptions, REF, RefVar, Ty, Var};

use crate::cells::Cells;
use crate::heap_layout::{self, Layout};
use crate::program::{Callee, Function, FunctionId, Host, NODE, Program, Type};
use crate::{fault, host};

/// Why a program was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The module refuses it.
    #[error(transparent)]
    Module(#[from] jit::Error),
    /// The heap refuses a shape.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// A program's code, and what the host knows of it.
pub struct Compiled {
    /// The code.
    pub module: Module,
    /// What the host knows of it.
    pub symbols: Symbols,
}

/// What of a module belongs to what of a program.
#[derive(Clone)]
pub struct Symbols {
    /// For each shape.
    pub layouts: Vec<Layout>,
    /// For each global.
    pub globals: Vec<Global>,
    /// For each function.
    pub functions: Vec<Func>,
    /// Gives the word at an offset from a reference: for values that do not cross to the host.
    pub peek: Func,
    /// The host functions.
    pub hosts: Vec<(Host, Func)>,
    /// What code and host share.
    pub cells: Rc<Cells>,
}

/// Compiles a program.
///
/// # Errors
/// What the module fails with: never, if all is well.
pub fn compile(program: &Program, options: ModuleOptions) -> Result<Compiled, CompileError> {
    let mut module = Module::new(options)?;
    let layouts = heap_layout::register(&mut module, program)?;
    let globals = program.globals.iter().map(|_| module.global()).collect();
    let functions = program.functions.iter().enumerate().map(|(index, function)| {
        module.declare(&format!("f{index}"), signature(&function.params, &function.results))
    });
    let functions: Vec<Func> = functions.collect::<Result<_, _>>()?;
    let cells = Cells::shared();
    let hosts = host::declare(&mut module, &layouts[NODE], &cells, functions[0])?;
    let peek = jit::Signature::new([REF, types::I64.into()], [types::I64.into()]);
    let peek = module.function("peek", peek, |e| {
        let (object, offset) = (e.ref_param(0).value(), e.param(1));
        let address = e.ins().iadd(object, offset);
        let word = e.ins().load(types::I64, MemFlagsData::new(), address, 0);
        e.ret(args![word]);
    })?;
    let symbols = Symbols { layouts, globals, functions, peek, hosts, cells };
    for (index, function) in program.functions.iter().enumerate() {
        module.define(symbols.functions[index], |e| {
            let code = Code::start(e, program, &symbols, function);
            let ended = code.block(e, &function.body);
            assert!(ended, "a function ends in a return");
        })?;
    }
    Ok(Compiled { module, symbols })
}

/// What functions take and give, as the module calls it.
pub fn signature(params: &[Type], results: &[Type]) -> jit::Signature {
    jit::Signature::new(params.iter().copied().map(ty), results.iter().copied().map(ty))
}

fn ty(of: Type) -> Ty {
    match of {
        Type::Int => types::I64.into(),
        Type::Float => types::F64.into(),
        Type::Wide => types::I128.into(),
        Type::Vector => types::I64X2.into(),
        Type::Ref(_) => REF,
    }
}

/// A local variable in compiled code.
#[derive(Clone, Copy)]
enum Variable {
    Scalar(Var),
    Ref(RefVar),
    /// A reference that no stack map names: a seeded fault.
    Undeclared(Var),
}

/// A function's code in the making.
struct Code<'a> {
    program: &'a Program,
    symbols: &'a Symbols,
    locals: Vec<Variable>,
    /// What the statements around the present one have bound.
    bound: RefCell<Vec<Arg>>,
}

impl<'a> Code<'a> {
    /// Begins a function: what it does without depth or fuel, its variables.
    fn start(
        e: &mut Emit,
        program: &'a Program,
        symbols: &'a Symbols,
        function: &'a Function,
    ) -> Self {
        let mut code = Self { program, symbols, locals: Vec::new(), bound: RefCell::default() };
        let depth = e.param(0);
        let depth_left = e.ins().icmp_imm_s(IntCC::SignedGreaterThan, depth, 0);
        let fuel_left = code.fuel_left(e);
        let goes_on = e.ins().band(depth_left, fuel_left);
        let nothing_left = |e: &mut Emit| {
            let zeros: Vec<Arg> = function.results.iter().map(|&ty| zero(e, ty)).collect();
            e.ret(&zeros);
        };
        e.if_else(goes_on, |_| {}, nothing_left);
        code.burn(e);
        for (index, &ty) in function.locals.iter().enumerate() {
            let first = match ty {
                _ if index >= function.params.len() => zero(e, ty),
                Type::Ref(_) => e.ref_param(index).into(),
                _ => e.param(index).into(),
            };
            let variable = match first {
                Arg::Scalar(first) => Variable::Scalar(e.var(first)),
                Arg::Ref(first) if fault::is_active(fault::Fault::NoReload) => {
                    Variable::Undeclared(e.var(first.value()))
                }
                Arg::Ref(first) => Variable::Ref(e.ref_var(first)),
            };
            code.locals.push(variable);
        }
        code
    }

    fn get(&self, e: &mut Emit, local: usize) -> Arg {
        match self.locals[local] {
            Variable::Scalar(variable) => e.get(variable).into(),
            Variable::Ref(variable) => e.get_ref(variable).into(),
            Variable::Undeclared(variable) => {
                let value = e.get(variable);
                e.undeclared_ref(value).into()
            }
        }
    }

    fn set(&self, e: &mut Emit, local: usize, value: Arg) {
        match self.locals[local] {
            Variable::Ref(variable) => e.set_ref(variable, reference(value)),
            Variable::Scalar(variable) | Variable::Undeclared(variable) => {
                e.set(variable, value.value());
            }
        }
    }

    fn fuel_left(&self, e: &mut Emit) -> Value {
        let (_, fuel) = cell(e, &self.symbols.cells.fuel);
        e.ins().icmp_imm_s(IntCC::SignedGreaterThan, fuel, 0)
    }

    fn burn(&self, e: &mut Emit) {
        let (at, fuel) = cell(e, &self.symbols.cells.fuel);
        let less = e.ins().iadd_imm_s(fuel, -1);
        e.ins().store(MemFlagsData::trusted(), less, at, 0);
    }

    /// The number for an object that is about to be allocated.
    fn take_number(&self, e: &mut Emit) -> Value {
        let (at, number) = cell(e, &self.symbols.cells.next_number);
        let next = e.ins().iadd_imm_s(number, 1);
        e.ins().store(MemFlagsData::trusted(), next, at, 0);
        number
    }

    /// Makes an integer part of the trace.
    fn observe(&self, e: &mut Emit, value: Value) {
        let (at, trace) = cell(e, &self.symbols.cells.trace);
        let trace = e.ins().imul_imm_s(trace, 31);
        let trace = e.ins().iadd(trace, value);
        e.ins().store(MemFlagsData::trusted(), trace, at, 0);
    }

    fn func(&self, function: FunctionId) -> Func {
        self.symbols.functions[function]
    }

    fn callee(&self, e: &mut Emit, callee: &Callee) -> jit::Callee {
        match callee {
            Callee::Direct(function) => self.func(*function).into(),
            Callee::Indirect(which, first, second) => {
                let which = self.int(e, which);
                let (first_addr, second_addr) =
                    (e.func_addr(self.func(*first)), e.func_addr(self.func(*second)));
                let address = e.ins().select(which, first_addr, second_addr);
                let function = &self.program.functions[*first];
                jit::Callee::indirect(&signature(&function.params, &function.results), address)
            }
            Callee::Host(host) => {
                let mut hosts = self.symbols.hosts.iter();
                let (_, func) = hosts.find(|(of, _)| of == host).expect("all are declared");
                (*func).into()
            }
        }
    }
}

/// A counter's address, and its value now.
fn cell(e: &mut Emit, cell: &Cell<i64>) -> (Value, Value) {
    let at = e.int(types::I64, Cells::address(cell));
    (at, e.ins().load(types::I64, MemFlagsData::trusted(), at, 0))
}

fn zero(e: &mut Emit, ty: Type) -> Arg {
    let zero = e.int(types::I64, 0);
    match ty {
        Type::Int => zero.into(),
        Type::Float => e.ins().f64const(0.0).into(),
        Type::Wide => e.ins().uextend(types::I128, zero).into(),
        Type::Vector => e.ins().splat(types::I64X2, zero).into(),
        Type::Ref(_) => e.null().into(),
    }
}

fn reference(arg: Arg) -> jit::Ref {
    match arg {
        Arg::Ref(reference) => reference,
        Arg::Scalar(value) => panic!("{value} is no reference"),
    }
}
