//! Compiled code gives the host its callee-saved registers back, however it is left: the entry
//! trampoline is called by hand, without a Rust frame that could hide what it changes. (No register is
//! pinned: the context is an argument.)

use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::c_void;

use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F64, I64};
use tospace::collector::{Collector, Semispace};
use tospace::jit::trampoline::EntryTrampoline;
use tospace::jit::{Context, Entry, Func, Signature};
use tospace::stack::Landing;
use tospace::{Mutator, Val, args};

use crate::support::{boxes, emit_garbage, mutator};

/// Calls an entry trampoline with a pattern in each callee-saved register; how many of them it changed.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn registers_changed(
    context: *mut Context,
    landing: *const Landing,
    callee: *const u8,
    words: *mut u64,
    trampoline: EntryTrampoline,
) -> u64 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov rbp, 0x101",
        "mov rbx, 0x202",
        "mov r12, 0x303",
        "mov r13, 0x404",
        "mov r14, 0x505",
        "mov r15, 0x606",
        "call r8",
        "xor eax, eax",
        "xor ecx, ecx",
        "cmp rbp, 0x101",
        "setne cl",
        "add rax, rcx",
        "cmp rbx, 0x202",
        "setne cl",
        "add rax, rcx",
        "cmp r12, 0x303",
        "setne cl",
        "add rax, rcx",
        "cmp r13, 0x404",
        "setne cl",
        "add rax, rcx",
        "cmp r14, 0x505",
        "setne cl",
        "add rax, rcx",
        "cmp r15, 0x606",
        "setne cl",
        "add rax, rcx",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// As above; also the low halves of v8 to v15.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn registers_changed(
    context: *mut Context,
    landing: *const Landing,
    callee: *const u8,
    words: *mut u64,
    trampoline: EntryTrampoline,
) -> u64 {
    naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x19, #0x101",
        "mov x20, #0x202",
        "mov x21, #0x303",
        "mov x22, #0x404",
        "mov x23, #0x505",
        "mov x24, #0x606",
        "mov x25, #0x707",
        "mov x26, #0x808",
        "mov x27, #0x909",
        "mov x28, #0xa0a",
        "mov x29, #0xb0b",
        "fmov d8, x19",
        "fmov d9, x20",
        "fmov d10, x21",
        "fmov d11, x22",
        "fmov d12, x23",
        "fmov d13, x24",
        "fmov d14, x25",
        "fmov d15, x26",
        "blr x4",
        "mov x0, #0",
        "cmp x19, #0x101",
        "cinc x0, x0, ne",
        "mov x9, #0x202",
        "cmp x20, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x303",
        "cmp x21, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x404",
        "cmp x22, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x505",
        "cmp x23, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x606",
        "cmp x24, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x707",
        "cmp x25, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x808",
        "cmp x26, x9",
        "cinc x0, x0, ne",
        "mov x9, #0x909",
        "cmp x27, x9",
        "cinc x0, x0, ne",
        "mov x9, #0xa0a",
        "cmp x28, x9",
        "cinc x0, x0, ne",
        "mov x9, #0xb0b",
        "cmp x29, x9",
        "cinc x0, x0, ne",
        "fmov x9, d8",
        "cmp x19, x9",
        "cinc x0, x0, ne",
        "fmov x9, d9",
        "cmp x20, x9",
        "cinc x0, x0, ne",
        "fmov x9, d10",
        "cmp x21, x9",
        "cinc x0, x0, ne",
        "fmov x9, d11",
        "cmp x22, x9",
        "cinc x0, x0, ne",
        "fmov x9, d12",
        "cmp x23, x9",
        "cinc x0, x0, ne",
        "fmov x9, d13",
        "cmp x24, x9",
        "cinc x0, x0, ne",
        "fmov x9, d14",
        "cmp x25, x9",
        "cinc x0, x0, ne",
        "fmov x9, d15",
        "cmp x26, x9",
        "cinc x0, x0, ne",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}

thread_local! {
    static INNER: Cell<Option<Func>> = const { Cell::new(None) };
}

/// Enters the inner function by hand; how many registers that changed.
extern "C" fn enters(context: *mut Context, how: i64) -> i64 {
    // SAFETY: the host function that the exit trampoline called, with its context, which the inner
    // activation uses as well; the inner function takes and gives one word.
    unsafe {
        let mutator = Mutator::<Semispace>::from_context(context);
        let inner = INNER.get().expect("set before the call");
        let Entry { trampoline, landing, callee } = mutator.module().entry(inner).expect("final");
        let mut words = [how as u64];
        registers_changed(context, landing, callee, words.as_mut_ptr(), trampoline) as i64
    }
}

/// Leaves the newest activation, as slow paths that fail do.
extern "C" fn leaves(context: *mut Context) {
    // SAFETY: the newest activation is that of the exit trampoline's caller, and no frame between has
    // a destructor.
    unsafe { (*(*context).activation).abandon() }
}

#[test]
fn the_host_gets_its_registers_back() {
    let mut boxes = boxes(Semispace::ATTRS);
    let (layout, number, module) = (boxes.layout, boxes.number, &mut boxes.module);
    let signature = || Signature::new([I64.into()], [I64.into()]);
    // SAFETY: both have these signatures and do not unwind.
    let (enters, leaves) = unsafe {
        let leaves = leaves as *const c_void;
        (
            module.declare_host("enters", signature(), enters as *const c_void).unwrap(),
            module.declare_host("leaves", Signature::default(), leaves).unwrap(),
        )
    };
    // Uses more values at a time than there are registers; leaves if it is told to, or traps.
    let busy = module
        .function("busy", signature(), |e| {
            let how = e.param(0);
            let held: Vec<_> = (0..40)
                .map(|index| {
                    let value = e.ins().iadd_imm_s(how, index);
                    let float = e.ins().fcvt_from_sint(F64, value);
                    (e.new_record(layout, args![value]), value, float)
                })
                .collect();
            emit_garbage(e, layout, 10_000);
            let is_one = e.ins().icmp_imm_s(IntCC::Equal, how, 1);
            e.if_then(is_one, |e| _ = e.call(leaves, args![]));
            let mut total = how;
            for (held, value, float) in held {
                let float = e.ins().fcvt_to_sint(I64, float);
                let own = e.load(held, number, I64);
                for value in [own, value, float] {
                    total = e.ins().iadd(total, value);
                }
            }
            e.ret(args![total]);
        })
        .unwrap();
    INNER.set(Some(busy));
    let outer = module
        .function("outer", signature(), |e| {
            let how = e.param(0);
            let changed = e.call(enters, args![how]).scalar();
            e.ret(args![changed]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 16);
    for how in [0, 1, 2, 1, 0] {
        assert_eq!(mutator.call(outer, &[Val::I64(how)]), Ok(vec![Val::I64(0)]), "{how}");
    }
    assert!(mutator.statistics().collections > 5);
}
