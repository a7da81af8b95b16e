//! The ways out of compiled code: exit trampolines to slow paths and to host functions.

use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use cranelift_codegen::ir::types::{F32, F64, I32, I64};
use cranelift_codegen::isa::CallConv;
use cranelift_module::Module as _;

use super::{Func, Module};
use crate::jit::Error;
use crate::jit::function::Kind;
use crate::jit::trampoline::{self, Passing};
use crate::jit::types::{REF, Signature};
use crate::scope::Scope;
use crate::trap::HostError;
use crate::val::Val;

/// The exit trampolines that emitted code calls by itself. Every module declares them first, so each
/// has the same number as its host function, whose address the mutator fills in.
pub(crate) const ALLOCATE: Func = Func(0);
pub(crate) const ALLOCATE_ARRAY: Func = Func(1);
pub(crate) const COLLECT: Func = Func(2);
/// Not called by emitted code but by the exit trampolines of [`Module::host_function`]s.
pub(crate) const CALL_HOST: Func = Func(3);
pub(crate) const THROW: Func = Func(4);
pub(crate) const OUT_OF_BOUNDS: Func = Func(5);

/// A host function of the safe kind.
pub(crate) struct HostFunction {
    pub name: Arc<str>,
    pub signature: Signature,
    pub body: Box<HostBody>,
}

type HostBody = dyn for<'s> Fn(&mut Scope<'s>, &[Val<'s>]) -> Result<Vec<Val<'s>>, HostError>;

impl Module {
    pub(super) fn declare_slow_paths(&mut self) -> Result<(), Error> {
        let int = I64.into();
        let slow_paths = [
            (ALLOCATE, "allocate", &[int][..], &[REF][..]),
            (ALLOCATE_ARRAY, "allocate_array", &[int, int], &[REF]),
            (COLLECT, "collect", &[], &[]),
            (CALL_HOST, "call_host", &[int, int], &[]),
            (THROW, "throw", &[REF], &[]),
            (OUT_OF_BOUNDS, "out_of_bounds", &[int, int], &[]),
        ];
        for (func, name, params, results) in slow_paths {
            let signature = Signature::new(params.iter().copied(), results.iter().copied());
            let declared = self.declare_exit(name, Kind::Trampoline, signature)?;
            assert_eq!(declared, func);
        }
        if self.options.missed_roots {
            let stub = self.declare_exit("stub", Kind::Trampoline, Signature::default())?;
            let ir = Signature::default().ir(CallConv::Tail);
            self.compile(stub, ir, trampoline::build_stub)?;
            self.stub = Some(stub);
        }
        for (func, ..) in slow_paths {
            let number = self.host_functions.len();
            self.host_functions.push(std::ptr::null());
            self.compile_exit(func, Passing::Raw { number })?;
        }
        Ok(())
    }

    /// Declares a host function and compiles its exit trampoline. Compiled code calls it like any
    /// other function.
    ///
    /// # Errors
    /// [`Error::HostType`] for integers of less than 32 bits, which C leaves to its callers to
    /// extend, and for values of more than eight bytes; [`Error::HostResults`] for more than one
    /// result. [`Module::host_function`] has only one of these limits, and is safe.
    ///
    /// # Safety
    /// `address` is an `extern "C"` function that takes a `*mut Context` and then `signature`'s
    /// parameters, and returns its results. It does not unwind. A reference that it is given is
    /// valid only until it lets a collection happen (I8).
    pub unsafe fn declare_host(
        &mut self,
        name: &str,
        signature: Signature,
        address: *const c_void,
    ) -> Result<Func, Error> {
        for ty in signature.params.iter().chain(&signature.results).map(|ty| ty.ir()) {
            if !matches!(ty, I32 | I64 | F32 | F64) {
                return Err(Error::HostType { function: name.to_owned(), ty });
            }
        }
        if signature.results.len() > 1 {
            let (function, results) = (name.to_owned(), signature.results.len());
            return Err(Error::HostResults { function, results });
        }
        let func = self.declare_exit(name, Kind::Host, signature)?;
        let number = self.host_functions.len();
        self.host_functions.push(address);
        self.compile_exit(func, Passing::Raw { number })?;
        Ok(func)
    }

    /// Declares a host function: a closure that compiled code calls like any other function. Its
    /// references are handles; it may allocate, collect, and call compiled code again.
    ///
    /// ```
    /// # use tospace::collector::{Collector, Semispace};
    /// # use tospace::cranelift_codegen::ir::{InstBuilder, types::I64};
    /// # use tospace::heap::HeapOptions;
    /// # use tospace::jit::{Module, ModuleOptions, REF, Signature};
    /// # use tospace::{HostError, Mutator, Val, args};
    /// let mut module = Module::new(ModuleOptions::new(Semispace::ATTRS))?;
    /// let text = module.scalars("text", 1)?;
    /// let length = Signature::new([REF], [I64.into()]);
    /// let length = module.host_function("length", length, |scope, arguments| {
    ///     let Val::Ref(text) = arguments[0] else { unreachable!("as the signature says") };
    ///     if scope.is_null(text) {
    ///         return Err(HostError::new("the length of null"));
    ///     }
    ///     Ok(vec![Val::I64(scope.array_length(text) as i64)])
    /// })?;
    /// let twice = module.function("twice", Signature::new([REF], [I64.into()]), |e| {
    ///     let text = e.ref_param(0);
    ///     let length = e.call(length, args![text]).scalar();
    ///     let twice = e.ins().ishl_imm_u(length, 1);
    ///     e.ret(args![twice]);
    /// })?;
    /// let mut mutator = Mutator::new(module, Semispace::new(HeapOptions::new(1 << 20))?)?;
    /// mutator.scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
    ///     let five = scope.new_array(text, 5)?;
    ///     assert_eq!(scope.call(twice, &[Val::Ref(five)])?, [Val::I64(10)]);
    ///     let null = scope.null();
    ///     let error = scope.call(twice, &[Val::Ref(null)]).expect_err("it fails");
    ///     assert!(error.to_string().starts_with("the length of null"));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::HostType`] for values of more than eight bytes.
    pub fn host_function(
        &mut self,
        name: &str,
        signature: Signature,
        body: impl for<'s> Fn(&mut Scope<'s>, &[Val<'s>]) -> Result<Vec<Val<'s>>, HostError> + 'static,
    ) -> Result<Func, Error> {
        let mut types = signature.params.iter().chain(&signature.results);
        if let Some(ty) = types.find(|ty| !Val::can_be(**ty)) {
            return Err(Error::HostType { function: name.to_owned(), ty: ty.ir() });
        }
        let func = self.declare_exit(name, Kind::Host, signature.clone())?;
        let number = self.host_bodies.len();
        let (name, body) = (Arc::from(name), Box::new(body));
        self.host_bodies.push(Rc::new(HostFunction { name, signature, body }));
        self.compile_exit(func, Passing::Words { number })?;
        Ok(func)
    }

    fn declare_exit(
        &mut self,
        name: &str,
        kind: Kind,
        signature: Signature,
    ) -> Result<Func, Error> {
        let ir = signature.ir(CallConv::Tail);
        self.push(name, kind, signature, &ir)
    }

    fn compile_exit(&mut self, func: Func, passing: Passing) -> Result<(), Error> {
        let signature = self.signature(func).clone();
        let stub = self.stub.map(|stub| self.functions[stub.index()].id);
        let stub = stub.map(|id| self.jit.declare_func_in_func(id, &mut self.codegen.func));
        self.codegen.func.stack_limit = Some(trampoline::stack_limit(&mut self.codegen.func));
        self.compile(func, signature.ir(CallConv::Tail), |builder| {
            trampoline::build_exit(builder, &signature, passing, stub);
        })
    }
}
