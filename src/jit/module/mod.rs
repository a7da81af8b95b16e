//! A set of functions: declared, defined, made final, and then known to the walk.
//!
//! Wraps Cranelift's [`JITModule`]. What it adds: layouts and globals, exit trampolines for host
//! functions, entry trampolines for every signature, and each function's call sites, with their
//! stack maps, registered by return address as soon as its code has one.
//!
//! | file | what it has |
//! |---|---|
//! | this one | declaring, defining, making final |
//! | `host` | the ways out: slow paths and host functions |
//! | `code` | what is known of final code |

mod code;
mod host;

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::mem::{self, ManuallyDrop};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::collector::CollectorAttrs;
use crate::debug::DebugModes;
use crate::heap::{ArrayLayout, LayoutError, LayoutId, Layouts, Record, WORD};
use crate::jit::check::check;
use crate::jit::emit::Emit;
use crate::jit::error::Error;
use crate::jit::function::{Function, Kind, Pending};
use crate::jit::target::{OptLevel, host_isa};
use crate::jit::trampoline;
use crate::jit::types::{Signature, Ty, WORD_TYPE};
use crate::stack::{CallSite, Landing, MapTable};
use cranelift_codegen::ir::{
    self, AbiParam, FuncRef, Function as IrFunction, UserFuncName, types::I64,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Linkage, Module as _, default_libcall_names};

pub use self::code::Entry;
use self::host::HostFunction;
pub(crate) use self::host::{ALLOCATE, ALLOCATE_ARRAY, CALL_HOST, COLLECT, OUT_OF_BOUNDS, THROW};

/// Address space for code: as much as a direct call reaches on aarch64.
const CODE_ARENA: usize = 128 << 20;

/// A function of a [`Module`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func(u32);

impl Func {
    fn index(self) -> usize {
        self.0 as usize
    }

    /// For an exit trampoline that emitted code calls by itself: the number of its host function.
    pub(crate) fn number(self) -> usize {
        self.index()
    }
}

/// A global variable that holds a reference: a root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Global(u32);

impl Global {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    pub(in crate::jit) fn offset(self) -> i32 {
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
    /// Whether each function is checked when it is defined: see [`check()`]. On in debug builds.
    pub check: bool,
    /// Whether to keep each function's CLIF and disassembly.
    pub keep_text: bool,
}

impl ModuleOptions {
    /// Optimised code for a collector with these attributes, without counting; with `missed_roots` if
    /// the environment says so.
    pub fn new(attrs: CollectorAttrs) -> Self {
        let DebugModes { missed_roots, check, .. } = DebugModes::from_env_or_none();
        Self {
            attrs,
            count_allocations: false,
            opt_level: OptLevel::Speed,
            native_features: false,
            missed_roots,
            check: check || cfg!(debug_assertions),
            keep_text: false,
        }
    }
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
    /// Cloned by whoever runs its code.
    running: Rc<()>,
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
            running: Rc::new(()),
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
        };
        module.codegen.set_disasm(options.keep_text);
        module.declare_slow_paths()?;
        Ok(module)
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

    /// Defines a function: `body` emits it.
    ///
    /// # Errors
    /// If Cranelift does not compile it, it is defined already, or [`ModuleOptions::check`] is set and
    /// finds something.
    pub fn define(&mut self, func: Func, body: impl FnOnce(&mut Emit)) -> Result<(), Error> {
        let signature = self.signature(func).clone();
        let mut function = mem::replace(&mut self.codegen.func, IrFunction::new());
        let mut frontend = mem::take(&mut self.frontend);
        function.signature = signature.ir(CallConv::Tail);
        let builder = FunctionBuilder::new(&mut function, &mut frontend);
        let mut emit = Emit::start(builder, self, signature);
        body(&mut emit);
        let (callees, references) = emit.finish();
        self.frontend = frontend;
        if self.options.check {
            let findings = check(&function, references);
            if !findings.is_empty() {
                return Err(Error::Check { function: self.name(func).to_owned(), findings });
            }
        }
        self.codegen.func = function;
        self.finish_function(func)?;
        self.functions[func.index()].callees = callees;
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
                let callee = &self.functions[callee.index()];
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
        let function = &mut self.functions[func.index()];
        if let Some(ty) = narrow_map_entry(&self.codegen.func) {
            let function = function.name.to_string();
            self.jit.clear_context(&mut self.codegen);
            self.codegen.set_disasm(self.options.keep_text);
            return Err(Error::MapEntry { function, ty });
        }
        self.codegen.func.name = UserFuncName::user(0, function.id.as_u32());
        let defined = self.jit.define_function(function.id, &mut self.codegen);
        let result = match defined {
            Ok(()) => {
                function.note_code(&self.codegen, self.options.keep_text);
                Ok(())
            }
            Err(source) => Err(Error::function(&function.name, source, &self.codegen.func)),
        };
        self.jit.clear_context(&mut self.codegen);
        self.codegen.set_disasm(self.options.keep_text);
        result
    }

    fn register(&mut self, func: Func, pending: Pending) {
        let function = &mut self.functions[func.index()];
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

    pub(in crate::jit) fn import(&mut self, func: Func, into: &mut IrFunction) -> FuncRef {
        self.jit.declare_func_in_func(self.functions[func.index()].id, into)
    }

    pub(in crate::jit) fn frontend_config(&self) -> TargetFrontendConfig {
        self.jit.isa().frontend_config()
    }
}

/// The type of an entry of some stack map that is no reference of this crate's.
fn narrow_map_entry(function: &IrFunction) -> Option<ir::Type> {
    let insts = function.layout.blocks().flat_map(|block| function.layout.block_insts(block));
    let entries = insts.filter_map(|inst| function.dfg.user_stack_map_entries(inst)).flatten();
    entries.map(|entry| entry.ty).find(|&ty| ty != WORD_TYPE)
}

/// Keeps a module's code where it is while it runs, whatever becomes of the module.
pub(crate) struct Running(#[expect(dead_code, reason = "it is counted")] Rc<()>);

impl Module {
    pub(crate) fn running(&self) -> Running {
        Running(Rc::clone(&self.running))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if Rc::strong_count(&self.running) > 1 {
            // Somebody has put another module in this one's place, while its code is active.
            mem::forget(mem::take(&mut self.landings));
            return;
        }
        // SAFETY: taken once, here; the code is not running.
        unsafe { ManuallyDrop::take(&mut self.jit).free_memory() }
    }
}
