//! Emitting the body of a function: Cranelift's builder, with references that have a type of their
//! own.
//!
//! Scalars are Cranelift's [`Value`]s, computed by Cranelift's instructions ([`Emit::ins`]). A
//! reference is a [`Ref`]: every operation that makes one declares it for stack maps at its birth
//! (invariant I1), and no operation makes a derived pointer that outlives it (I2).
//!
//! | file | what it emits |
//! |---|---|
//! | this one | parameters, variables, returns |
//! | `call` | calls, tail calls, exceptions |
//! | `control` | branches and loops |
//! | `object` | fields, elements, globals |
//! | `allocate` | allocation, as the collector wants it |

mod allocate;
mod call;
mod control;
mod object;

use std::collections::HashMap;
use std::ops::Deref;

use cranelift_codegen::ir::{
    self, AliasRegionData, FuncRef, InstBuilder, MemFlagsData, TrapCode, Value, condcodes::IntCC,
};
use cranelift_frontend::{FuncInstBuilder, FunctionBuilder, Variable};

pub use self::call::Callee;
pub(crate) use self::call::UNREACHABLE;
use super::module::{Func, Module};
use super::types::{Signature, Ty, WORD_TYPE};
use crate::heap::WORD;

/// A reference in compiled code.
///
/// Only valid in the function that it was made in. It may be used after any number of safepoints:
/// whatever moved the object updated it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ref(pub(super) Value);

impl Ref {
    /// The value, for instructions that [`Emit`] has not. A pointer that is computed from it must not
    /// live across a safepoint (I2).
    pub fn value(self) -> Value {
        self.0
    }
}

/// What an access through null traps with. The codes above 248 are this crate's.
pub(crate) const NULL_REFERENCE: TrapCode = TrapCode::unwrap_user(250);

/// A mutable variable that holds a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Var(Variable);

/// A mutable variable that holds a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefVar(Variable);

/// An argument, a result, or a field's value: a scalar or a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// Anything but a reference.
    Scalar(Value),
    /// A reference.
    Ref(Ref),
}

impl From<Value> for Arg {
    fn from(value: Value) -> Self {
        Self::Scalar(value)
    }
}

impl From<Ref> for Arg {
    fn from(reference: Ref) -> Self {
        Self::Ref(reference)
    }
}

impl Arg {
    /// The value, whatever its type.
    pub fn value(self) -> Value {
        match self {
            Self::Scalar(value) | Self::Ref(Ref(value)) => value,
        }
    }
}

/// A list of [`Arg`]s: `args![count, node]` for any mixture of scalars and references.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { &[$($crate::jit::Arg::from($arg)),*] };
}

/// What a call gave: a list of [`Arg`]s.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Results(Vec<Arg>);

impl Deref for Results {
    type Target = [Arg];

    fn deref(&self) -> &[Arg] {
        &self.0
    }
}

impl Results {
    /// The only result, a reference.
    ///
    /// # Panics
    /// If the function's signature says otherwise.
    pub fn reference(&self) -> Ref {
        match self.0[..] {
            [Arg::Ref(reference)] => reference,
            _ => panic!("the call gives {:?}, not one reference", self.0),
        }
    }

    /// The only result, a scalar.
    ///
    /// # Panics
    /// If the function's signature says otherwise.
    pub fn scalar(&self) -> Value {
        match self.0[..] {
            [Arg::Scalar(value)] => value,
            _ => panic!("the call gives {:?}, not one scalar", self.0),
        }
    }
}

/// Memory that no other region overlaps. Telling Cranelift so lets it keep a word of one in a
/// register across stores to the others.
#[derive(Clone, Copy)]
enum Region {
    Context = 1,
    Heap = 2,
    Globals = 3,
}

/// A function under construction.
pub struct Emit<'a> {
    builder: FunctionBuilder<'a>,
    module: &'a mut Module,
    signature: Signature,
    context: Value,
    params: Vec<Arg>,
    callees: HashMap<Func, FuncRef>,
    /// Every value that was made a [`Ref`], for the check.
    references: Vec<Value>,
}

impl<'a> Emit<'a> {
    /// Starts the body of a function with `signature`, which `builder`'s function has.
    pub(super) fn start(
        mut builder: FunctionBuilder<'a>,
        module: &'a mut Module,
        signature: Signature,
    ) -> Self {
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let values = builder.block_params(entry).to_vec();
        let mut emit = Self {
            builder,
            module,
            context: values[0],
            params: Vec::new(),
            callees: HashMap::new(),
            references: Vec::new(),
            signature,
        };
        emit.params = emit.typed(&values[1..], &emit.signature.params.clone());
        emit
    }

    /// Ends the body; the functions that it calls, and its references. One without results may end
    /// without [`Emit::ret`].
    pub(super) fn finish(mut self) -> (Vec<Func>, Vec<Value>) {
        if !self.is_filled() {
            assert!(
                self.signature.results.is_empty(),
                "the function ends without returning its {} results",
                self.signature.results.len()
            );
            self.ret(&[]);
        }
        let config = self.module.frontend_config();
        self.builder.finalize(config);
        (self.callees.into_keys().collect(), self.references)
    }

    /// Cranelift's instructions, for everything but references.
    ///
    /// Whatever makes a reference with them has to be declared by hand, and must not be a pointer
    /// into an object: use [`Emit::load_ref`] and the like instead.
    pub fn ins<'short>(&'short mut self) -> FuncInstBuilder<'short, 'a> {
        self.builder.ins()
    }

    /// Cranelift's builder itself, for what this one does not cover. [`Emit::ins`]'s warning holds.
    pub fn builder(&mut self) -> &mut FunctionBuilder<'a> {
        &mut self.builder
    }

    /// Makes a value that `builder` computed a reference, declared for stack maps from here on.
    ///
    /// For values that [`Emit::builder`] produced. The value must be one that an instruction or a
    /// block parameter defines: declaring what `use_var` returns may be lost.
    pub fn adopt_ref(&mut self, value: Value) -> Ref {
        self.builder.declare_value_needs_stack_map(value);
        self.noted_ref(value)
    }

    /// Makes a value a reference without declaring it: for constants and immediates, which no
    /// collection changes. Anything else is lost at the next safepoint.
    pub fn undeclared_ref(&mut self, value: Value) -> Ref {
        // The check takes for an immediate what is computed, but not what somebody else gave.
        let dfg = &self.builder.func.dfg;
        let opcode = dfg.value_def(value).inst().map(|inst| dfg.insts[inst].opcode());
        match opcode {
            Some(opcode) if !opcode.can_load() && !opcode.is_call() => Ref(value),
            _ => self.noted_ref(value),
        }
    }

    /// The context, which compiled code passes to every function.
    pub fn context(&self) -> Value {
        self.context
    }

    /// The parameter at `index`, a scalar.
    ///
    /// # Panics
    /// If it is a reference, or there is none.
    pub fn param(&self, index: usize) -> Value {
        match self.params[index] {
            Arg::Scalar(value) => value,
            Arg::Ref(_) => panic!("parameter {index} is a reference: use `ref_param`"),
        }
    }

    /// The parameter at `index`, a reference.
    ///
    /// # Panics
    /// If it is a scalar, or there is none.
    pub fn ref_param(&self, index: usize) -> Ref {
        match self.params[index] {
            Arg::Ref(reference) => reference,
            Arg::Scalar(_) => panic!("parameter {index} is no reference: use `param`"),
        }
    }

    /// A constant of an integer type.
    pub fn int(&mut self, ty: ir::Type, value: i64) -> Value {
        self.builder.ins().iconst(ty, value)
    }

    /// The null reference.
    pub fn null(&mut self) -> Ref {
        let null = self.builder.ins().iconst(WORD_TYPE, 0);
        self.undeclared_ref(null)
    }

    /// Whether a reference is null.
    pub fn is_null(&mut self, reference: Ref) -> Value {
        self.builder.ins().icmp_imm_s(IntCC::Equal, reference.0, 0)
    }

    /// Whether a reference is not null.
    pub fn is_present(&mut self, reference: Ref) -> Value {
        self.builder.ins().icmp_imm_s(IntCC::NotEqual, reference.0, 0)
    }

    /// Whether two references are to the same object.
    pub fn is_same(&mut self, left: Ref, right: Ref) -> Value {
        self.builder.ins().icmp(IntCC::Equal, left.0, right.0)
    }

    /// A new variable with a first value.
    pub fn var(&mut self, first: Value) -> Var {
        let ty = self.builder.func.dfg.value_type(first);
        let var = Var(self.builder.declare_var(ty));
        self.set(var, first);
        var
    }

    /// The variable's present value.
    pub fn get(&mut self, var: Var) -> Value {
        self.builder.use_var(var.0)
    }

    /// Gives the variable another value.
    pub fn set(&mut self, var: Var, value: Value) {
        self.builder.def_var(var.0, value);
    }

    /// A new variable for references, with a first value.
    pub fn ref_var(&mut self, first: Ref) -> RefVar {
        let variable = self.builder.declare_var(WORD_TYPE);
        // Before the first definition, or Cranelift leaves that one out of its maps.
        self.builder.declare_var_needs_stack_map(variable);
        let var = RefVar(variable);
        self.set_ref(var, first);
        var
    }

    /// The variable's present reference.
    pub fn get_ref(&mut self, var: RefVar) -> Ref {
        // Declared through the variable, which covers every value it ever has.
        let value = self.builder.use_var(var.0);
        self.noted_ref(value)
    }

    /// Gives the variable another reference.
    pub fn set_ref(&mut self, var: RefVar, reference: Ref) {
        self.builder.def_var(var.0, reference.0);
    }

    /// Returns from the function.
    ///
    /// # Panics
    /// If the results are not what its signature says.
    pub fn ret(&mut self, results: &[Arg]) {
        self.check("return", "this function", results, &self.signature.results);
        let values: Vec<Value> = results.iter().map(|arg| arg.value()).collect();
        self.builder.ins().return_(&values);
    }

    /// A reference that the check knows of.
    fn noted_ref(&mut self, value: Value) -> Ref {
        self.references.push(value);
        Ref(value)
    }

    fn callee(&mut self, callee: Func) -> FuncRef {
        let (module, function) = (&mut *self.module, &mut *self.builder.func);
        *self.callees.entry(callee).or_insert_with(|| module.import(callee, function))
    }

    /// Gives values their types; references are born here.
    fn typed(&mut self, values: &[Value], types: &[Ty]) -> Vec<Arg> {
        let typed = values.iter().zip(types).map(|(&value, ty)| match ty {
            Ty::Ref => Arg::Ref(self.adopt_ref(value)),
            Ty::Scalar(_) => Arg::Scalar(value),
        });
        typed.collect()
    }

    fn check(&self, what: &str, of: &str, given: &[Arg], expected: &[Ty]) {
        let fits = given.len() == expected.len()
            && given.iter().zip(expected).all(|(arg, ty)| self.ty(*arg) == *ty);
        assert!(
            fits,
            "{what} of {of}: {expected:?} expected, {:?} given",
            given.iter().map(|arg| self.ty(*arg)).collect::<Vec<_>>()
        );
    }

    fn ty(&self, arg: Arg) -> Ty {
        match arg {
            Arg::Ref(_) => Ty::Ref,
            Arg::Scalar(value) => Ty::Scalar(self.builder.func.dfg.value_type(value)),
        }
    }

    /// The flags of an access through a reference, which may be null: the first 64 KiB of addresses,
    /// where the fields of null would be, are nobody's, and the fault becomes a trap. Objects are
    /// aligned to eight bytes: a 16-byte access must not claim more.
    fn object_flags(&mut self, ty: ir::Type) -> MemFlagsData {
        let region = self.flags(Region::Heap).alias_region();
        let flags = MemFlagsData::new().with_alias_region(region);
        let flags = flags.with_trap_code(Some(NULL_REFERENCE));
        if ty.bytes() as usize <= WORD { flags.with_aligned() } else { flags }
    }

    /// The flags of an access that cannot fault. Never `readonly` nor `can_move`: a load of heap
    /// memory that moves over a call reads a from-space that is gone.
    fn flags(&mut self, region: Region) -> MemFlagsData {
        let description = match region {
            Region::Context => "context",
            Region::Heap => "heap",
            Region::Globals => "globals",
        };
        let data = AliasRegionData { user_id: region as u32, description: description.into() };
        let region = self.builder.func.dfg.alias_regions.insert(data);
        MemFlagsData::trusted().with_alias_region(Some(region))
    }
}
