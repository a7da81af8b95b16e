//! What is known of a module's code: how to enter it, and what lies where.

use std::ffi::c_void;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use cranelift_codegen::ir::TrapCode;
use cranelift_module::Module as _;

use super::host::HostFunction;
use super::{Func, Module, ModuleOptions};
use crate::collector::CollectorAttrs;
use crate::heap::Layouts;
use crate::jit::function::{Function, Kind};
use crate::jit::trampoline::EntryTrampoline;
use crate::jit::types::Signature;
use crate::stack::{Landing, MapTable};

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

impl Module {
    /// How the host enters `func`; `None` if it takes or gives more than a word at a time, or is not
    /// final.
    pub fn entry(&self, func: Func) -> Option<Entry> {
        let function = &self.functions[func.index()];
        let trampoline = *self.entries.get(&function.signature)?;
        let code = self.functions[trampoline.index()].start;
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

    /// The first function of this name that the program declared.
    pub fn find(&self, name: &str) -> Option<Func> {
        let is_it =
            |function: &Function| function.kind != Kind::Trampoline && &*function.name == name;
        Some(Func(self.functions.iter().position(is_it)? as u32))
    }

    pub(crate) fn is_host_function(&self, func: Func) -> bool {
        self.functions[func.index()].kind != Kind::Compiled
    }

    /// A function's signature.
    pub fn signature(&self, func: Func) -> &Signature {
        &self.functions[func.index()].signature
    }

    /// A function's name.
    pub fn name(&self, func: Func) -> &str {
        &self.functions[func.index()].name
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
        let function = &self.functions[func.index()];
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

    /// Whether some code starts at `pc`, compiled or a trampoline.
    pub(crate) fn starts_at(&self, pc: usize) -> bool {
        self.by_address.contains_key(&pc)
    }

    /// What the instruction at `pc` is known to trap for.
    pub(crate) fn trap_at(&self, pc: usize) -> Option<TrapCode> {
        let (start, func) = self.by_address.range(..=pc).next_back()?;
        let traps = &self.functions[func.index()].traps;
        let at = traps.binary_search_by_key(&(pc - start), |(offset, _)| *offset).ok()?;
        Some(traps[at].1)
    }

    /// The addresses that all code lies between.
    pub(crate) fn code_range(&self) -> (usize, usize) {
        let end = |(start, func): (&usize, &Func)| start + self.functions[func.index()].bytes;
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
        self.functions[func.index()].text.as_ref().map(|text| &*text.clif)
    }

    /// A function's machine code as Cranelift prints it, if [`ModuleOptions::keep_text`] is set.
    pub fn disassembly(&self, func: Func) -> Option<&str> {
        self.functions[func.index()].text.as_ref().map(|text| &*text.machine)
    }
}
