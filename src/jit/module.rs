//! A set of functions: declared, defined, made final, and then known to the walk.
//!
//! Wraps Cranelift's [`JITModule`]. What it adds: layouts and globals, exit trampolines for host
//! functions, entry trampolines for every signature, and each function's call sites, with their
//! stack maps, registered by return address as soon as its code has one.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::emit::Emit;
use super::error::Error;
use super::function::{Function, Kind, Pending};
use super::target::{OptLevel, host_isa};
use super::trampoline::{self, EntryTrampoline, Passing};
use super::types::{REF, Signature, Ty};
use crate::collector::CollectorAttrs;
use crate::debug::DebugModes;
use crate::heap::{ArrayLayout, LayoutError, LayoutId, Layouts, Record, WORD};
use crate::scope::Scope;
use crate::stack::{CallSite, Landing, MapTable};
use crate::trap::HostError;
use crate::val::Val;
use cranelift_codegen::ir::{
    self, AbiParam, FuncRef, Function as IrFunction, TrapCode, UserFuncName,
    types::{F32, F64, I32, I64},
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Linkage, Module as _, default_libcall_names};

/// Address space for code: as much as a direct call reaches on aarch64.
const CODE_ARENA: usize = 128 << 20;

/// A function of a [`Module`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func(u32);

impl Func {
    /// For an exit trampoline that emitted code calls by itself: the number of its host function.
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }
}

/// A global variable that holds a reference: a root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Global(u32);

impl Global {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn offset(self) -> i32 {
        (self.index() * WORD) as i32
    }
}

/// How a module emits code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModuleOptions {
    /// What the collector demands.
    pub attrs: CollectorAttrs,
    /// Whether compiled code counts the objects that it allocates.
    pub count_allocations: bool,
    /// How hard to optimise.
    pub opt_level: OptLevel,
    /// Whether to use what this machine has beyond its architecture's baseline.
    pub native_features: bool,
    /// A debug mode: before each collection, look for references that are in no stack map; see
    /// [`crate::Mutator::missed_roots`]. Exit trampolines then save all registers.
    pub missed_roots: bool,
    /// Whether each function is checked when it is defined: see [`crate::jit::check`].
    pub check: bool,
    /// Whether to keep each function's CLIF and disassembly.
    pub keep_text: bool,
}

impl ModuleOptions {
    /// Optimised code for a collector with these attributes, without counting; with `missed_roots` if
    /// the environment says so.
    pub fn new(attrs: CollectorAttrs) -> Self {
        Self {
            attrs,
            count_allocations: false,
            opt_level: OptLevel::Speed,
            native_features: false,
            missed_roots: DebugModes::from_env_or_none().missed_roots,
            check: cfg!(debug_assertions),
            keep_text: false,
        }
    }
}

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

/// How the host enters functions of one signature.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The trampoline's code.
    pub trampoline: EntryTrampoline,
    /// Where it lands after an abrupt exit.
    pub landing: *const Landing,
    /// The function's code.
    pub callee: *const u8,
}

/// Functions that are compiled together, and what the walk has to know of them.
pub struct Module {
    jit: ManuallyDrop<JITModule>,
    frontend: FunctionBuilderContext,
    codegen: cranelift_codegen::Context,
    options: ModuleOptions,
    layouts: Layouts,
    globals: u32,
    functions: Vec<Function>,
    host_functions: Vec<*const c_void>,
    host_bodies: Vec<Rc<HostFunction>>,
    /// What exit trampolines call to have all registers saved, if they shall.
    stub: Option<Func>,
    /// The entry trampoline of each signature.
    entries: HashMap<Signature, Func>,
    landings: HashMap<Func, Box<Landing>>,
    /// Final functions by the address of their code.
    by_address: BTreeMap<usize, Func>,
    maps: MapTable,
    /// A number that no other module of the process has.
    identity: u32,
}

impl Module {
    /// An empty module.
    ///
    /// # Errors
    /// If Cranelift does not support this machine, or there is no address space for code.
    pub fn new(options: ModuleOptions) -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let isa = host_isa(options.opt_level, options.native_features)?;
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        let arena = ArenaMemoryProvider::new_with_size(CODE_ARENA)
            .map_err(|error| Error::Memory(error.to_string()))?;
        builder.memory_provider(Box::new(arena));
        let jit = JITModule::new(builder);
        let mut module = Self {
            codegen: jit.make_context(),
            jit: ManuallyDrop::new(jit),
            frontend: FunctionBuilderContext::new(),
            options,
            layouts: Layouts::default(),
            globals: 0,
            functions: Vec::new(),
            host_functions: Vec::new(),
            host_bodies: Vec::new(),
            stub: None,
            entries: HashMap::new(),
            landings: HashMap::new(),
            by_address: BTreeMap::new(),
            maps: MapTable::default(),
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        module.codegen.set_disasm(options.keep_text);
        module.declare_slow_paths()?;
        Ok(module)
    }

    fn declare_slow_paths(&mut self) -> Result<(), Error> {
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
            let declared = self.declare_exit(name, signature)?;
            assert_eq!(declared, func);
        }
        if self.options.missed_roots {
            let stub = self.declare_exit("stub", Signature::default())?;
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

    /// Registers a record layout.
    ///
    /// # Errors
    /// See [`Layouts::record`].
    pub fn record(&mut self, record: Record) -> Result<LayoutId, LayoutError> {
        self.layouts.record(record)
    }

    /// Registers a layout of arrays of references.
    ///
    /// # Errors
    /// See [`Layouts::references`].
    pub fn references(&mut self, name: &str) -> Result<ArrayLayout, LayoutError> {
        self.layouts.references(name)
    }

    /// Registers a layout of arrays of scalars.
    ///
    /// # Errors
    /// See [`Layouts::scalars`].
    pub fn scalars(&mut self, name: &str, element_bytes: u32) -> Result<ArrayLayout, LayoutError> {
        self.layouts.scalars(name, element_bytes)
    }

    /// A new global, null at first.
    pub fn global(&mut self) -> Global {
        self.globals += 1;
        Global(self.globals - 1)
    }

    /// Declares a function, so that others can call it before it is defined.
    ///
    /// # Errors
    /// If Cranelift refuses the signature.
    pub fn declare(&mut self, name: &str, signature: Signature) -> Result<Func, Error> {
        let ir = signature.ir(CallConv::Tail);
        self.push(name, Kind::Compiled, signature, &ir)
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
        let func = self.declare_exit(name, signature)?;
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
        let func = self.declare_exit(name, signature.clone())?;
        let number = self.host_bodies.len();
        let (name, body) = (Arc::from(name), Box::new(body));
        self.host_bodies.push(Rc::new(HostFunction { name, signature, body }));
        self.compile_exit(func, Passing::Words { number })?;
        Ok(func)
    }

    fn declare_exit(&mut self, name: &str, signature: Signature) -> Result<Func, Error> {
        let ir = signature.ir(CallConv::Tail);
        self.push(name, Kind::Trampoline, signature, &ir)
    }

    fn compile_exit(&mut self, func: Func, passing: Passing) -> Result<(), Error> {
        let signature = self.signature(func).clone();
        let stub = self.stub.map(|stub| self.functions[stub.0 as usize].id);
        let stub = stub.map(|id| self.jit.declare_func_in_func(id, &mut self.codegen.func));
        self.codegen.func.stack_limit = Some(trampoline::stack_limit(&mut self.codegen.func));
        self.compile(func, signature.ir(CallConv::Tail), |builder| {
            trampoline::build_exit(builder, &signature, passing, stub);
        })
    }

    /// Defines a function: `body` emits it.
    ///
    /// # Errors
    /// If Cranelift does not compile it, or it is defined already.
    pub fn define(&mut self, func: Func, body: impl FnOnce(&mut Emit)) -> Result<(), Error> {
        let signature = self.signature(func).clone();
        let mut function = mem::replace(&mut self.codegen.func, IrFunction::new());
        let mut frontend = mem::take(&mut self.frontend);
        function.signature = signature.ir(CallConv::Tail);
        let builder = FunctionBuilder::new(&mut function, &mut frontend);
        let mut emit = Emit::start(builder, self, signature);
        body(&mut emit);
        let callees = emit.finish();
        (self.codegen.func, self.frontend) = (function, frontend);
        self.finish_function(func)?;
        self.functions[func.0 as usize].callees = callees;
        Ok(())
    }

    /// Declares and defines a function.
    ///
    /// # Errors
    /// See [`Module::define`].
    pub fn function(
        &mut self,
        name: &str,
        signature: Signature,
        body: impl FnOnce(&mut Emit),
    ) -> Result<Func, Error> {
        let func = self.declare(name, signature)?;
        self.define(func, body)?;
        Ok(func)
    }

    /// Makes all code that was defined since the last time final: gives it addresses, and registers
    /// its call sites.
    ///
    /// # Errors
    /// [`Error::Undefined`] if code calls a function that is only declared. Nothing becomes final
    /// then; when the function has been defined, it can.
    pub fn finalize(&mut self) -> Result<(), Error> {
        for caller in self.functions.iter().filter(|function| function.pending.is_some()) {
            for &callee in &caller.callees {
                let callee = &self.functions[callee.0 as usize];
                if !callee.defined {
                    let (caller, callee) = (caller.name.to_string(), callee.name.to_string());
                    return Err(Error::Undefined { caller, callee });
                }
            }
        }
        self.build_entries()?;
        self.jit
            .finalize_definitions()
            .map_err(|source| Error::function("(all)", source, &self.codegen.func))?;
        for index in 0..self.functions.len() {
            if let Some(pending) = self.functions[index].pending.take() {
                self.register(Func(index as u32), pending);
            }
        }
        Ok(())
    }

    /// An entry trampoline for each signature of a compiled function that has none, and takes and
    /// gives only references and scalars of up to a word.
    fn build_entries(&mut self) -> Result<(), Error> {
        for index in 0..self.functions.len() {
            let Function { kind, ref signature, .. } = self.functions[index];
            let signature = signature.clone();
            let mut types = signature.params.iter().chain(&signature.results);
            let crosses = |ty: &Ty| ty.ir().bytes() as usize <= WORD;
            if kind != Kind::Compiled
                || self.entries.contains_key(&signature)
                || !types.all(crosses)
            {
                continue;
            }
            let mut ir = ir::Signature::new(CallConv::SystemV);
            ir.params = [I64; trampoline::ENTRY_PARAMS].map(AbiParam::new).to_vec();
            ir.returns.push(AbiParam::new(I64));
            let func = self.push("entry", Kind::Trampoline, signature.clone(), &ir)?;
            self.compile(func, ir, |builder| trampoline::build_entry(builder, &signature))?;
            self.entries.insert(signature, func);
        }
        Ok(())
    }

    fn push(
        &mut self,
        name: &str,
        kind: Kind,
        signature: Signature,
        ir: &ir::Signature,
    ) -> Result<Func, Error> {
        let index = self.functions.len() as u32;
        // Names are for people: two functions may have the same.
        let symbol = format!("{name}#{index}");
        let id = self
            .jit
            .declare_function(&symbol, Linkage::Local, ir)
            .map_err(|source| Error::function(name, source, &self.codegen.func))?;
        self.functions.push(Function::new(name, kind, id, signature));
        Ok(Func(index))
    }

    /// Compiles a trampoline.
    fn compile(
        &mut self,
        func: Func,
        ir: ir::Signature,
        body: impl FnOnce(&mut FunctionBuilder),
    ) -> Result<(), Error> {
        let config = self.frontend_config();
        self.codegen.func.signature = ir;
        let mut builder = FunctionBuilder::new(&mut self.codegen.func, &mut self.frontend);
        body(&mut builder);
        builder.seal_all_blocks();
        builder.finalize(config);
        self.finish_function(func)
    }

    /// Hands the body in `codegen` to Cranelift, and keeps what the walk will need.
    fn finish_function(&mut self, func: Func) -> Result<(), Error> {
        let function = &mut self.functions[func.0 as usize];
        self.codegen.func.name = UserFuncName::user(0, function.id.as_u32());
        let defined = self.jit.define_function(function.id, &mut self.codegen);
        let result = match defined {
            Ok(()) => function.note_code(&self.codegen, self.options.keep_text),
            Err(source) => Err(Error::function(&function.name, source, &self.codegen.func)),
        };
        self.jit.clear_context(&mut self.codegen);
        self.codegen.set_disasm(self.options.keep_text);
        result
    }

    fn register(&mut self, func: Func, pending: Pending) {
        let function = &mut self.functions[func.0 as usize];
        function.start = self.jit.get_finalized_function(function.id).addr();
        self.by_address.insert(function.start, func);
        for (offset, site) in pending.call_sites {
            let handler = site.handler.map(|offset| function.start + offset);
            let site = CallSite { span: site.span, offsets: &site.offsets, handler };
            self.maps.insert(function.start + offset, site);
        }
        if let Some((offset, frame_bytes)) = pending.landing {
            let landing = Landing { pc: function.start + offset, frame_bytes };
            self.landings.insert(func, Box::new(landing));
        }
    }

    pub(super) fn import(&mut self, func: Func, into: &mut IrFunction) -> FuncRef {
        self.jit.declare_func_in_func(self.functions[func.0 as usize].id, into)
    }

    pub(super) fn frontend_config(&self) -> TargetFrontendConfig {
        self.jit.isa().frontend_config()
    }

    /// How the host enters `func`; `None` if it takes or gives more than a word at a time, or is not
    /// final.
    pub fn entry(&self, func: Func) -> Option<Entry> {
        let function = &self.functions[func.0 as usize];
        let trampoline = *self.entries.get(&function.signature)?;
        let code = self.functions[trampoline.0 as usize].start;
        if function.start == 0 || code == 0 {
            return None;
        }
        let code: *const u8 = std::ptr::with_exposed_provenance(code);
        Some(Entry {
            // SAFETY: `build_entry` compiled this code with that signature.
            trampoline: unsafe { mem::transmute::<*const u8, EntryTrampoline>(code) },
            landing: &*self.landings[&trampoline],
            callee: std::ptr::with_exposed_provenance(function.start),
        })
    }

    /// The call sites of all final code.
    pub fn maps(&self) -> &MapTable {
        &self.maps
    }

    /// The layouts of all objects.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// How many globals there are.
    pub fn globals(&self) -> usize {
        self.globals as usize
    }

    /// The target that code is compiled for: architecture, vendor, system.
    pub fn target(&self) -> String {
        self.jit.isa().triple().to_string()
    }

    /// What code is emitted for.
    pub fn attrs(&self) -> CollectorAttrs {
        self.options.attrs
    }

    /// How code is emitted.
    pub fn options(&self) -> &ModuleOptions {
        &self.options
    }

    /// The first function of this name.
    pub fn find(&self, name: &str) -> Option<Func> {
        let index = self.functions.iter().position(|function| &*function.name == name)?;
        Some(Func(index as u32))
    }

    /// A function's signature.
    pub fn signature(&self, func: Func) -> &Signature {
        &self.functions[func.0 as usize].signature
    }

    /// A function's name.
    pub fn name(&self, func: Func) -> &str {
        &self.functions[func.0 as usize].name
    }

    pub(crate) fn identity(&self) -> u32 {
        self.identity
    }

    pub(crate) fn host_functions(&self) -> &[*const c_void] {
        &self.host_functions
    }

    /// The function that `pc` lies in, or returns to, and the offset in bytes from its start; `None` if
    /// it is a trampoline.
    pub fn locate(&self, pc: usize) -> Option<(&Arc<str>, usize)> {
        // A call may be the last instruction: its return address is the function's end.
        let (start, func) = self.by_address.range(..pc).next_back()?;
        let function = &self.functions[func.0 as usize];
        let is_in = function.kind == Kind::Compiled && pc <= start + function.bytes;
        is_in.then(|| (&function.name, pc - start))
    }

    /// The start of the function that `pc` lies in, or returns to.
    ///
    /// # Panics
    /// If it is no function's.
    pub(crate) fn start(&self, pc: usize) -> usize {
        let (_, offset) = self.locate(pc).expect("an address in compiled code");
        pc - offset
    }

    /// What the instruction at `pc` is known to trap for.
    pub(crate) fn trap_at(&self, pc: usize) -> Option<TrapCode> {
        let (start, func) = self.by_address.range(..=pc).next_back()?;
        let traps = &self.functions[func.0 as usize].traps;
        let at = traps.binary_search_by_key(&(pc - start), |(offset, _)| *offset).ok()?;
        Some(traps[at].1)
    }

    /// The addresses that all code lies between.
    pub(crate) fn code_range(&self) -> (usize, usize) {
        let end = |(start, func): (&usize, &Func)| start + self.functions[func.0 as usize].bytes;
        match (self.by_address.first_key_value(), self.by_address.last_key_value()) {
            (Some((start, _)), Some(last)) => (*start, end(last)),
            _ => (0, 0),
        }
    }

    pub(crate) fn host_body(&self, number: usize) -> Rc<HostFunction> {
        Rc::clone(&self.host_bodies[number])
    }

    /// Bytes of machine code of all functions and trampolines.
    pub fn code_bytes(&self) -> usize {
        self.functions.iter().map(|function| function.bytes).sum()
    }

    /// A function's CLIF after all of Cranelift's passes, if [`ModuleOptions::keep_text`] is set.
    pub fn clif(&self, func: Func) -> Option<&str> {
        self.functions[func.0 as usize].text.as_ref().map(|text| &*text.clif)
    }

    /// A function's machine code as Cranelift prints it, if [`ModuleOptions::keep_text`] is set.
    pub fn disassembly(&self, func: Func) -> Option<&str> {
        self.functions[func.0 as usize].text.as_ref().map(|text| &*text.machine)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: taken once, here. The mutator that owns the module is not in compiled code, or it would
        // be borrowed; `Mutator::compile` gives nobody else's code away.
        unsafe { ManuallyDrop::take(&mut self.jit).free_memory() }
    }
}
