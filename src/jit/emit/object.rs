//! Fields, elements and globals.
//!
//! Addresses of elements are computed right before the access and are gone after it: no derived
//! pointer crosses a safepoint (I2). An access through null traps, and so does one to an element that
//! the array has not.

use cranelift_codegen::ir::{self, InstBuilder, Value, condcodes::IntCC, types::I64};

use super::{Emit, Ref, Region};
use crate::heap::{ArrayLayout, Field, Header, RefField, WORD};
use crate::jit::context::{Context, offset};
use crate::jit::module::{Global, OUT_OF_BOUNDS};
use crate::jit::types::WORD_TYPE;

impl Emit<'_> {
    /// The scalar in a field, as a value of type `ty`.
    ///
    /// # Panics
    /// If the type has not the field's size.
    pub fn load(&mut self, object: Ref, field: Field, ty: ir::Type) -> Value {
        assert_eq!(
            ty.bytes(),
            field.bytes(),
            "a load of {ty} from a field of {} bytes",
            field.bytes()
        );
        let flags = self.object_flags(ty);
        self.builder.ins().load(ty, flags, object.0, field.offset() as i32)
    }

    /// Stores a scalar in a field.
    ///
    /// # Panics
    /// If the value has not the field's size.
    pub fn store(&mut self, object: Ref, field: Field, value: Value) {
        let ty = self.builder.func.dfg.value_type(value);
        assert_eq!(
            ty.bytes(),
            field.bytes(),
            "a store of {ty} to a field of {} bytes",
            field.bytes()
        );
        let flags = self.object_flags(ty);
        self.builder.ins().store(flags, value, object.0, field.offset() as i32);
    }

    /// The reference in a field.
    pub fn load_ref(&mut self, object: Ref, field: RefField) -> Ref {
        let flags = self.object_flags(WORD_TYPE);
        let value = self.builder.ins().load(WORD_TYPE, flags, object.0, field.offset() as i32);
        self.adopt_ref(value)
    }

    /// Stores a reference in a field.
    pub fn store_ref(&mut self, object: Ref, field: RefField, value: Ref) {
        let flags = self.object_flags(WORD_TYPE);
        self.builder.ins().store(flags, value.0, object.0, field.offset() as i32);
        self.barrier();
    }

    /// The number of elements of an array, as an I64.
    pub fn array_length(&mut self, array: Ref) -> Value {
        let flags = self.object_flags(I64);
        let header = self.builder.ins().load(I64, flags, array.0, 0);
        self.builder.ins().ushr_imm_u(header, i64::from(Header::length_shift()))
    }

    /// The scalar at `index` (an I64).
    pub fn array_load(
        &mut self,
        array: Ref,
        layout: ArrayLayout,
        index: Value,
        ty: ir::Type,
    ) -> Value {
        self.check_element(layout, false, ty);
        let (address, flags) = (self.element(array, layout, index), self.object_flags(ty));
        self.builder.ins().load(ty, flags, address, WORD as i32)
    }

    /// Stores a scalar at `index` (an I64).
    pub fn array_store(&mut self, array: Ref, layout: ArrayLayout, index: Value, value: Value) {
        let ty = self.builder.func.dfg.value_type(value);
        self.check_element(layout, false, ty);
        let (address, flags) = (self.element(array, layout, index), self.object_flags(ty));
        self.builder.ins().store(flags, value, address, WORD as i32);
    }

    /// The reference at `index` (an I64).
    pub fn array_load_ref(&mut self, array: Ref, layout: ArrayLayout, index: Value) -> Ref {
        self.check_element(layout, true, WORD_TYPE);
        let (address, flags) = (self.element(array, layout, index), self.flags(Region::Heap));
        let value = self.builder.ins().load(WORD_TYPE, flags, address, WORD as i32);
        self.adopt_ref(value)
    }

    /// Stores a reference at `index` (an I64).
    pub fn array_store_ref(&mut self, array: Ref, layout: ArrayLayout, index: Value, value: Ref) {
        self.check_element(layout, true, WORD_TYPE);
        let (address, flags) = (self.element(array, layout, index), self.flags(Region::Heap));
        self.builder.ins().store(flags, value.0, address, WORD as i32);
        self.barrier();
    }

    /// The reference in a global.
    pub fn load_global(&mut self, global: Global) -> Ref {
        self.check_global(global);
        let (table, flags) = (self.globals(), self.flags(Region::Globals));
        let value = self.builder.ins().load(WORD_TYPE, flags, table, global.offset());
        self.adopt_ref(value)
    }

    /// Stores a reference in a global.
    pub fn store_global(&mut self, global: Global, value: Ref) {
        self.check_global(global);
        let (table, flags) = (self.globals(), self.flags(Region::Globals));
        self.builder.ins().store(flags, value.0, table, global.offset());
    }

    fn check_global(&self, global: Global) {
        assert!(global.index() < self.module.globals(), "a global of another module");
    }

    fn globals(&mut self) -> Value {
        let flags = self.flags(Region::Context);
        self.builder.ins().load(WORD_TYPE, flags, self.context, offset!(Context, globals))
    }

    /// The array's address plus the element's offset in the payload: add [`WORD`] for the header.
    fn element(&mut self, array: Ref, layout: ArrayLayout, index: Value) -> Value {
        let length = self.array_length(array);
        // Unsigned, so that a negative index is a large one.
        let outside = self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, index, length);
        let (cold, inside) = (self.block(), self.block());
        self.builder.set_cold_block(cold);
        self.builder.ins().brif(outside, cold, &[], inside, &[]);
        self.enter(cold);
        self.leave(OUT_OF_BOUNDS, &[index.into(), length.into()]);
        self.enter(inside);
        let log2 = i64::from(layout.element_bytes.ilog2());
        let offset = self.builder.ins().ishl_imm_u(index, log2);
        self.builder.ins().iadd(array.0, offset)
    }

    fn check_element(&self, layout: ArrayLayout, reference: bool, ty: ir::Type) {
        assert!(self.module.layouts().has_array(layout), "an array layout of another module");
        assert!(
            layout.holds_references == reference && layout.element_bytes == ty.bytes(),
            "an access to `{}` as {} of type {ty}",
            self.module.layouts().name(layout.id),
            if reference { "references" } else { "scalars" }
        );
    }

    /// What the collector wants after a store of a reference.
    fn barrier(&mut self) {
        match self.module.attrs().barrier {
            crate::collector::Barrier::None => {}
        }
    }
}
