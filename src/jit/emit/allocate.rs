//! Allocation, inline as the collector's attributes say, with a cold call for when that fails.
//!
//! The instructions of the fast path, for a record whose k fields are then stored:
//!
//! ```text
//!   bump                                     free list
//!   load   cursor                            load   cell <- list
//!   load   limit                             branch cell = 0 -> cold
//!   add    end = cursor + bytes              load   next <- [cell]
//!   branch end > limit -> cold               store  list <- next
//!   store  cursor <- end                     store  [cell] <- header
//!   store  [cursor] <- header
//! ```

use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, condcodes::IntCC, types::I64};

use super::{Arg, Emit, Ref, Region};
use crate::collector::InlineAllocation;
use crate::heap::{ArrayLayout, LayoutId, allocation::MAX_INLINE_CELL, layout::AnyField};
use crate::jit::context::{Context, free_list_offset, offset};
use crate::jit::module::{ALLOCATE, ALLOCATE_ARRAY};
use crate::jit::types::WORD_TYPE;

impl Emit<'_> {
    /// A new record. `fields` are the values of all its fields, in the order in which the layout
    /// declares them: there is no moment at which a collector can see one that is not initialised.
    ///
    /// # Panics
    /// If `fields` are not the layout's.
    pub fn new_record(&mut self, layout: LayoutId, fields: &[Arg]) -> Ref {
        let layouts = self.module.layouts();
        let (name, declared) = (layouts.name(layout).to_owned(), layouts.fields(layout).to_vec());
        assert_eq!(fields.len(), declared.len(), "values for the fields of `{name}`");
        let object = self.allocate_record(layout);
        for (&value, (field_name, field)) in fields.iter().zip(&declared) {
            match (value, field) {
                (Arg::Ref(value), AnyField::Reference(field)) => {
                    let flags = self.flags(Region::Heap);
                    self.builder.ins().store(flags, value.0, object.0, field.offset() as i32);
                }
                (Arg::Scalar(value), AnyField::Scalar(field)) => self.store(object, *field, value),
                _ => panic!("`{name}.{field_name}` is a {field:?}; {value:?} given"),
            }
        }
        object
    }

    /// A new array of `length` elements (an I64), all null or 0.
    pub fn new_array(&mut self, layout: ArrayLayout, length: Value) -> Ref {
        assert!(self.module.layouts().has_array(layout), "an array layout of another module");
        self.count_allocation();
        let template = self.module.layouts().template(layout.id).bits() as i64;
        let template = self.builder.ins().iconst(I64, template);
        self.call(ALLOCATE_ARRAY, &[template.into(), length.into()]).reference()
    }

    /// Memory for a record, with its header; the fields hold anything.
    fn allocate_record(&mut self, layout: LayoutId) -> Ref {
        self.count_allocation();
        let layouts = self.module.layouts();
        let (bytes, header) = (layouts.record_bytes(layout), layouts.template(layout).bits());
        let header = self.builder.ins().iconst(I64, header as i64);
        match self.module.attrs().allocation {
            InlineAllocation::Bump => self.bump(bytes, header),
            InlineAllocation::FreeLists if bytes <= MAX_INLINE_CELL => {
                self.take_cell(bytes, header)
            }
            InlineAllocation::FreeLists | InlineAllocation::Call => {
                self.call(ALLOCATE, &[header.into()]).reference()
            }
        }
    }

    fn bump(&mut self, bytes: usize, header: Value) -> Ref {
        let context = self.context;
        let flags = self.flags(Region::Context);
        let cursor_at = offset!(Context, buffer.cursor);
        let cursor = self.builder.ins().load(WORD_TYPE, flags, context, cursor_at);
        let limit =
            self.builder.ins().load(WORD_TYPE, flags, context, offset!(Context, buffer.limit));
        let end = self.builder.ins().iadd_imm_s(cursor, bytes as i64);
        let full = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, end, limit);
        self.fast_or_call(full, header, |e| {
            e.builder.ins().store(flags, end, context, cursor_at);
            cursor
        })
    }

    fn take_cell(&mut self, bytes: usize, header: Value) -> Ref {
        let context = self.context;
        let (flags, heap) = (self.flags(Region::Context), self.flags(Region::Heap));
        let list_at = free_list_offset(bytes);
        let cell = self.builder.ins().load(WORD_TYPE, flags, context, list_at);
        let empty = self.builder.ins().icmp_imm_s(IntCC::Equal, cell, 0);
        self.fast_or_call(empty, header, |e| {
            let next = e.builder.ins().load(WORD_TYPE, heap, cell, 0);
            e.builder.ins().store(flags, next, context, list_at);
            cell
        })
    }

    /// What `fast` allocates, with its header stored; or, if `unable`, what the collector does.
    fn fast_or_call(
        &mut self,
        unable: Value,
        header: Value,
        fast: impl FnOnce(&mut Self) -> Value,
    ) -> Ref {
        let (inline, cold, join) = (self.block(), self.block(), self.block());
        self.builder.set_cold_block(cold);
        let object = self.builder.append_block_param(join, WORD_TYPE);
        self.builder.ins().brif(unable, cold, &[], inline, &[]);

        self.enter(inline);
        let address = fast(self);
        let flags = self.flags(Region::Heap);
        self.builder.ins().store(flags, header, address, 0);
        self.builder.ins().jump(join, &[BlockArg::Value(address)]);

        self.enter(cold);
        let Ref(address) = self.call(ALLOCATE, &[header.into()]).reference();
        self.builder.ins().jump(join, &[BlockArg::Value(address)]);

        self.enter(join);
        self.adopt_ref(object)
    }

    /// Adds one to the context's count, in code that is compiled to count.
    fn count_allocation(&mut self) {
        if !self.module.options().count_allocations {
            return;
        }
        let (context, flags) = (self.context, self.flags(Region::Context));
        let at = offset!(Context, allocated_objects);
        let count = self.builder.ins().load(I64, flags, context, at);
        let count = self.builder.ins().iadd_imm_s(count, 1);
        self.builder.ins().store(flags, count, context, at);
    }
}
