//! Calls of every kind, and exceptions.

use cranelift_codegen::ir::{
    BlockArg, ExceptionTableData, ExceptionTableItem, InstBuilder, TrapCode, Value,
};
use cranelift_codegen::isa::CallConv;

use super::{Arg, Emit, Ref, Results};
use crate::jit::module::{COLLECT, Func, THROW};
use crate::jit::types::{Signature, WORD_TYPE};

/// What follows a call that does not return. It is never executed.
pub(crate) const UNREACHABLE: TrapCode = TrapCode::unwrap_user(249);

/// What is called: a function of the module, compiled or of the host, or one whose address is only
/// known when the code runs.
#[derive(Clone, Debug)]
pub enum Callee {
    /// A function of the module.
    Func(Func),
    /// The function whose address, from [`Emit::func_addr`], is in `address`.
    Indirect {
        /// What the function takes and gives: not checked.
        signature: Signature,
        /// Its address.
        address: Value,
    },
}

impl From<Func> for Callee {
    fn from(func: Func) -> Self {
        Self::Func(func)
    }
}

impl Callee {
    /// The function at `address`, which has this signature.
    pub fn indirect(signature: &Signature, address: Value) -> Self {
        Self::Indirect { signature: signature.clone(), address }
    }
}

impl Emit<'_> {
    /// Calls a function.
    ///
    /// # Panics
    /// If the arguments are not what its signature says.
    pub fn call(&mut self, callee: impl Into<Callee>, arguments: &[Arg]) -> Results {
        let callee = callee.into();
        let signature = self.check_call(&callee, arguments);
        let arguments = self.with_context(arguments);
        let call = match callee {
            Callee::Func(func) => {
                let callee = self.callee(func);
                self.builder.ins().call(callee, &arguments)
            }
            Callee::Indirect { address, .. } => {
                let callee = self.builder.import_signature(signature.ir(CallConv::Tail));
                self.builder.ins().call_indirect(callee, address, &arguments)
            }
        };
        let values = self.builder.inst_results(call).to_vec();
        Results(self.typed(&values, &signature.results))
    }

    /// Calls a function in this one's place: it returns what this one should, and this one's frame is
    /// gone. Ends the block.
    ///
    /// # Panics
    /// If the arguments are not what its signature says, or it gives other results than this one.
    pub fn tail_call(&mut self, callee: impl Into<Callee>, arguments: &[Arg]) {
        let callee = callee.into();
        let signature = self.check_call(&callee, arguments);
        assert_eq!(signature.results, self.signature.results, "the results of a tail call");
        let arguments = self.with_context(arguments);
        match callee {
            Callee::Func(func) => {
                let callee = self.callee(func);
                self.builder.ins().return_call(callee, &arguments);
            }
            Callee::Indirect { address, .. } => {
                let callee = self.builder.import_signature(signature.ir(CallConv::Tail));
                self.builder.ins().return_call_indirect(callee, address, &arguments);
            }
        }
    }

    /// Calls a function; goes on with `returned`, or, if it or whatever it calls throws, with `caught`,
    /// which gets what was thrown. Both then go on behind, unless they end.
    ///
    /// ```
    /// # use tospace::collector::{Collector, Semispace};
    /// # use tospace::cranelift_codegen::ir::{InstBuilder, types::I64};
    /// # use tospace::heap::{HeapOptions, Record};
    /// # use tospace::jit::{Module, ModuleOptions, Signature};
    /// # use tospace::{Mutator, Val, args};
    /// let mut module = Module::new(ModuleOptions::new(Semispace::ATTRS))?;
    /// let mut error = Record::new("error");
    /// let code = error.scalar("code", 8)?;
    /// let error = module.record(error)?;
    /// let signature = || Signature::new([I64.into()], [I64.into()]);
    /// let checked = module.function("checked", signature(), |e| {
    ///     let number = e.param(0);
    ///     e.if_then(number, |e| {
    ///         let error = e.new_record(error, args![number]);
    ///         e.throw(error);
    ///     });
    ///     e.ret(args![number]);
    /// })?;
    /// let guarded = module.function("guarded", signature(), |e| {
    ///     let number = e.param(0);
    ///     e.try_call(
    ///         checked,
    ///         args![number],
    ///         |e, results| e.ret(&results),
    ///         |e, thrown| {
    ///             let code = e.load(thrown, code, I64);
    ///             let minus = e.ins().ineg(code);
    ///             e.ret(args![minus]);
    ///         },
    ///     );
    /// })?;
    /// let mut mutator = Mutator::new(module, Semispace::new(HeapOptions::new(1 << 20))?)?;
    /// assert_eq!(mutator.call(guarded, &[Val::I64(0)])?, [Val::I64(0)]);
    /// assert_eq!(mutator.call(guarded, &[Val::I64(7)])?, [Val::I64(-7)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If the arguments are not what the signature says.
    pub fn try_call(
        &mut self,
        callee: impl Into<Callee>,
        arguments: &[Arg],
        returned: impl FnOnce(&mut Self, Results),
        caught: impl FnOnce(&mut Self, Ref),
    ) {
        let callee = callee.into();
        let signature = self.check_call(&callee, arguments);
        let arguments = self.with_context(arguments);
        let (normal, handler, join) = (self.block(), self.block(), self.block());
        let types = signature.results.iter();
        let results: Vec<Value> =
            types.map(|ty| self.builder.append_block_param(normal, ty.ir())).collect();
        let thrown = self.builder.append_block_param(handler, WORD_TYPE);

        let ir = self.builder.import_signature(signature.ir(CallConv::Tail));
        let pool = &mut self.builder.func.dfg;
        let given: Vec<_> = (0..results.len() as u32).map(BlockArg::TryCallRet).collect();
        let to_normal = pool.block_call(normal, &given);
        let to_handler = pool.block_call(handler, &[BlockArg::TryCallExn(0)]);
        let items = [ExceptionTableItem::Default(to_handler)];
        let table = pool.exception_tables.push(ExceptionTableData::new(ir, to_normal, items));
        match callee {
            Callee::Func(func) => {
                let callee = self.callee(func);
                self.builder.ins().try_call(callee, &arguments, table);
            }
            Callee::Indirect { address, .. } => {
                self.builder.ins().try_call_indirect(address, &arguments, table);
            }
        }
        let mut joined = self.arm(normal, join, |e| {
            let results = e.typed(&results, &signature.results);
            returned(e, Results(results));
        });
        joined |= self.arm(handler, join, |e| {
            let thrown = e.adopt_ref(thrown);
            caught(e, thrown);
        });
        if joined {
            self.enter(join);
        }
    }

    /// Throws a reference to the nearest [`Emit::try_call`] up the frames of this activation; without
    /// one, the host's call fails with [`crate::TrapKind::Uncaught`]. Ends the block.
    pub fn throw(&mut self, exception: Ref) {
        self.leave(THROW, &[exception.into()]);
    }

    /// Collects garbage now.
    pub fn collect(&mut self) {
        self.call(COLLECT, &[]);
    }

    /// The address of a function's code, for [`Callee::indirect`]. Not a reference.
    pub fn func_addr(&mut self, func: Func) -> Value {
        let func = self.callee(func);
        self.builder.ins().func_addr(WORD_TYPE, func)
    }

    /// Calls a slow path that does not return. Ends the block.
    pub(super) fn leave(&mut self, slow_path: Func, arguments: &[Arg]) {
        self.call(slow_path, arguments);
        self.builder.ins().trap(UNREACHABLE);
    }

    /// The signature of what is called with these arguments.
    fn check_call(&self, callee: &Callee, arguments: &[Arg]) -> Signature {
        let (name, signature) = match callee {
            Callee::Func(func) => (self.module.name(*func), self.module.signature(*func)),
            Callee::Indirect { signature, .. } => ("a function by its address", signature),
        };
        self.check("call", name, arguments, &signature.params);
        signature.clone()
    }

    fn with_context(&self, arguments: &[Arg]) -> Vec<Value> {
        std::iter::once(self.context).chain(arguments.iter().map(|arg| arg.value())).collect()
    }
}
