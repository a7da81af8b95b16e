//! What a module remembers of a function, from its declaration to its code's address.

use std::sync::Arc;

use cranelift_codegen::ir::TrapCode;
use cranelift_codegen::{Context, FinalizedMachExceptionHandler};
use cranelift_module::FuncId;

use super::Func;
use super::types::{Signature, WORD_TYPE};

/// Whose frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// An activation's: its call sites are registered.
    Compiled,
    /// An exit trampoline's to a function that the program declared, and as below.
    Host,
    /// The walk begins or ends before it: a walk that meets one has gone wrong and shall say so.
    Trampoline,
}

#[derive(Debug)]
pub(super) struct Function {
    pub name: Arc<str>,
    pub id: FuncId,
    pub signature: Signature,
    pub defined: bool,
    pub kind: Kind,
    /// The functions that it calls.
    pub callees: Vec<Func>,
    /// For as long as the code has no address.
    pub pending: Option<Pending>,
    /// The code's address; 0 before it has one.
    pub start: usize,
    pub bytes: usize,
    /// The offsets of the instructions that may trap, in order.
    pub traps: Vec<(usize, TrapCode)>,
    pub text: Option<Text>,
}

/// What has to wait for an address. Offsets are from the function's start.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Return offsets and what the frame looks like there.
    pub call_sites: Vec<(usize, Site)>,
    /// The handler of an entry trampoline, and FP - SP there.
    pub landing: Option<(usize, usize)>,
}

#[derive(Debug, Default)]
pub(super) struct Site {
    pub span: usize,
    pub offsets: Vec<u32>,
    /// The handler's offset from the function's start.
    pub handler: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Text {
    pub clif: String,
    pub machine: String,
}

impl Function {
    pub fn new(name: &str, kind: Kind, id: FuncId, signature: Signature) -> Self {
        Self {
            name: name.into(),
            id,
            signature,
            defined: false,
            kind,
            callees: Vec::new(),
            pending: None,
            start: 0,
            bytes: 0,
            traps: Vec::new(),
            text: None,
        }
    }

    /// Keeps what `codegen`, which has just compiled this function, will forget.
    pub fn note_code(&mut self, codegen: &Context, keep_text: bool) {
        let code = codegen.compiled_code().expect("the function was compiled");
        let mut pending = Pending::default();
        for call in code.buffer.call_sites() {
            let handler = call.exception_handlers.iter().find_map(|handler| match handler {
                FinalizedMachExceptionHandler::Default(offset) => Some(*offset as usize),
                _ => None,
            });
            let frame_bytes = call.frame_offset.map(|bytes| bytes as usize);
            match (self.kind, handler) {
                (Kind::Compiled, _) => {
                    let span = frame_bytes.unwrap_or(0);
                    let site = Site { span, offsets: Vec::new(), handler };
                    pending.call_sites.push((call.ret_addr as usize, site));
                }
                (Kind::Host | Kind::Trampoline, Some(handler)) => {
                    let frame_bytes = frame_bytes.expect("a call with a handler says it");
                    pending.landing = Some((handler, frame_bytes));
                }
                (Kind::Host | Kind::Trampoline, None) => {}
            }
        }
        for (return_offset, span, map) in code.buffer.user_stack_maps() {
            let at = pending
                .call_sites
                .binary_search_by_key(&(*return_offset as usize), |(offset, _)| *offset)
                .expect("a stack map belongs to a call");
            let site = &mut pending.call_sites[at].1;
            site.span = *span as usize;
            for (ty, offset) in map.entries() {
                debug_assert_eq!(ty, WORD_TYPE, "the module refuses others");
                site.offsets.push(offset);
            }
        }
        let traps = code.buffer.traps().iter();
        self.traps = traps.map(|trap| (trap.offset as usize, trap.code)).collect();
        self.text = keep_text.then(|| Text {
            clif: codegen.func.display().to_string(),
            machine: code.vcode.clone().unwrap_or_default(),
        });
        self.bytes = code.code_buffer().len();
        self.pending = Some(pending);
        self.defined = true;
    }
}
