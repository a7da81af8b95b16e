//! The heap as the host sees it: objects behind handles.
//!
//! A [`Scope`] is given to the body of [`Mutator::scope`] and to every host function. What it hands
//! out are [`Handle`]s, which collections update. Every access is checked against the object's own
//! header: a mistake is a panic, with the layout's name in it, and never a wild access.
//!
//! # What does not compile
//!
//! A Rust reference into an object borrows the scope, so that nothing can collect while it is held.
//! This compiles,
//!
//! ```
//! # use tospace::{Mutator, collector::Collector, heap::ArrayLayout};
//! fn fresh<C: Collector>(mutator: &mut Mutator<C>, text: ArrayLayout) {
//!     mutator.scope(|scope| {
//!         let array = scope.new_array(text, 8).unwrap();
//!         scope.collect(); // the array moves
//!         let inside: &[u8] = scope.bytes(array);
//!         println!("{inside:?}");
//!     });
//! }
//! ```
//!
//! and this does not:
//!
//! ```compile_fail,E0502
//! # use tospace::{Mutator, collector::Collector, heap::ArrayLayout};
//! fn stale<C: Collector>(mutator: &mut Mutator<C>, text: ArrayLayout) {
//!     mutator.scope(|scope| {
//!         let array = scope.new_array(text, 8).unwrap();
//!         let inside: &[u8] = scope.bytes(array);
//!         scope.collect(); // the array moves
//!         println!("{inside:?}");
//!     });
//! }
//! ```
//!
//! A handle does not outlive its scope. Within it, and in scopes inside of it, it can be used; a global
//! keeps its object:
//!
//! ```
//! # use tospace::{Mutator, collector::Collector, jit::Global};
//! fn keep<C: Collector>(mutator: &mut Mutator<C>, kept: Global) {
//!     mutator.scope(|scope| {
//!         let outer = scope.null();
//!         scope.scope(|inner| inner.store_global(kept, outer));
//!     });
//! }
//! ```
//!
//! Not into a variable of the scope's surroundings:
//!
//! ```compile_fail,E0521
//! # use tospace::{Mutator, collector::Collector};
//! fn leak<C: Collector>(mutator: &mut Mutator<C>) {
//!     let mut outside = None;
//!     mutator.scope(|scope| outside = Some(scope.null()));
//! }
//! ```
//!
//! not by being returned, be it from an inner scope to an outer one, as what is in the object can:
//!
//! ```
//! # use tospace::{Mutator, Val, collector::Collector, heap::{ArrayLayout, Field}};
//! # use tospace::cranelift_codegen::ir::types::I64;
//! fn number<C: Collector>(mutator: &mut Mutator<C>, text: ArrayLayout) -> usize {
//!     mutator.scope(|scope| {
//!         let length = scope.scope(|inner| {
//!             let array = inner.new_array(text, 8).unwrap();
//!             inner.array_length(array)
//!         });
//!         let null = scope.null();
//!         if scope.is_null(null) { length } else { 0 }
//!     })
//! }
//! ```
//!
//! ```compile_fail
//! # use tospace::{Mutator, Val, collector::Collector};
//! fn outlive<C: Collector>(mutator: &mut Mutator<C>) -> Val<'static> {
//!     mutator.scope(|scope| Val::Ref(scope.null()))
//! }
//! ```
//!
//! ```compile_fail
//! # use tospace::{Mutator, collector::Collector};
//! fn escape<C: Collector>(mutator: &mut Mutator<C>) {
//!     mutator.scope(|scope| {
//!         let inner = scope.scope(|inner| inner.null());
//!         scope.is_null(inner);
//!     });
//! }
//! ```
//!
//! and not into what a host function keeps from call to call:
//!
//! ```compile_fail,E0521
//! # use std::cell::Cell;
//! # use tospace::jit::{Module, REF, Signature};
//! fn hoard(module: &mut Module) {
//!     let hoarded = Cell::new(None);
//!     let _ = module.host_function("hoard", Signature::new([REF], []), move |_, given| {
//!         hoarded.set(given[0].as_ref());
//!         Ok(vec![])
//!     });
//! }
//! ```

use std::{ptr, slice};

use crate::handle::{Handle, Handles};
use crate::heap::layout::AnyField;
use crate::heap::{
    ArrayLayout, Cycle, Field, GcRef, Header, LayoutId, RefField, Slot, WORD, header,
};
use crate::jit::{Error, Func, Global, Module, Ty};
use crate::mutator::{CallError, Statistics};
use crate::trap::{HostError, TrapKind};
use crate::val::Val;

#[cfg(doc)]
use crate::Mutator;

/// What a scope needs of a mutator, whatever its collector.
pub(crate) trait Heap {
    fn module(&self) -> &Module;
    fn handles(&self) -> &Handles;
    fn handles_mut(&mut self) -> &mut Handles;
    /// A new object with this header, its payload zero.
    fn allocate(&mut self, header: Header) -> Result<GcRef, TrapKind>;
    fn collect(&mut self) -> Cycle;
    /// Calls a function with one word for each argument; one word for each result. References in
    /// them are stale after the next safepoint.
    fn enter(&mut self, func: Func, words: Vec<u64>) -> Result<Vec<u64>, CallError>;
    fn global(&self, global: Global) -> Slot;
    /// Notes what a host function is going to throw; the number that says that it was this one.
    fn throw(&mut self, exception: usize) -> u64;
    fn throwing(&self) -> u64;
    fn take_uncaught(&mut self) -> usize;
    fn statistics(&self) -> Statistics;
    fn compile(
        &mut self,
        body: &mut dyn FnMut(&mut Module) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// The right to use a mutator's heap, and the handles that were made with it. They end together.
pub struct Scope<'s> {
    heap: &'s mut (dyn Heap + 's),
    /// How many handles there were when the scope began.
    base: usize,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.heap.handles_mut().truncate(self.base);
    }
}

impl<'s> Scope<'s> {
    pub(crate) fn new(heap: &'s mut (dyn Heap + 's)) -> Self {
        let base = heap.handles().len();
        Self { heap, base }
    }

    /// A scope inside this one, for handles that are not needed for long: in the body of a loop, say.
    /// This scope's handles can be used in it, but its own do not leave it.
    pub fn scope<T>(&mut self, body: impl for<'i> FnOnce(&mut Scope<'i>) -> T) -> T {
        body(&mut Scope::new(&mut *self.heap))
    }

    /// Calls a compiled function.
    ///
    /// # Errors
    /// [`CallError::Trap`] with what went wrong in compiled code. The mutator can be used afterwards.
    ///
    /// # Panics
    /// With the panic of a host function or a slow path, carried over the compiled frames; or if an
    /// argument is another mutator's handle.
    pub fn call(&mut self, func: Func, arguments: &[Val<'_>]) -> Result<Vec<Val<'s>>, CallError> {
        check_arguments(self.heap.module(), func, arguments)?;
        let words = self.words(arguments);
        let words = self.heap.enter(func, words)?;
        let types = self.heap.module().signature(func).results.clone();
        Ok(self.vals(&types, &words))
    }

    /// The words of values. References in them are stale after the next safepoint.
    pub(crate) fn words(&self, vals: &[Val<'_>]) -> Vec<u64> {
        let word = |handle| self.heap.handles().word(handle) as u64;
        vals.iter().map(|val| val.to_word().unwrap_or_else(word)).collect()
    }

    /// The values in words; there has been no safepoint since the references in them were read.
    ///
    /// # Panics
    /// If a value of some type cannot be.
    pub(crate) fn vals(&mut self, types: &[Ty], words: &[u64]) -> Vec<Val<'s>> {
        let val = |(ty, &word): (&Ty, &u64)| match ty {
            Ty::Ref => Val::Ref(self.heap.handles_mut().push(word as usize)),
            _ => Val::from_word(*ty, word).expect("a type that crosses to the host"),
        };
        types.iter().zip(words).map(val).collect()
    }

    /// A handle of null.
    pub fn null(&mut self) -> Handle<'s> {
        self.heap.handles_mut().push(0)
    }

    /// A handle of its own for what `other` refers to: it lasts as long as this scope.
    pub fn copy(&mut self, other: Handle<'_>) -> Handle<'s> {
        let word = self.heap.handles().word(other);
        self.heap.handles_mut().push(word)
    }

    /// Whether a handle holds null.
    pub fn is_null(&self, handle: Handle<'_>) -> bool {
        self.heap.handles().word(handle) == 0
    }

    /// Whether two handles refer to the same object.
    pub fn is_same(&self, left: Handle<'_>, right: Handle<'_>) -> bool {
        self.heap.handles().word(left) == self.heap.handles().word(right)
    }

    /// The layout of the object that a handle refers to.
    ///
    /// # Panics
    /// If it refers to none.
    pub fn layout(&self, object: Handle<'_>) -> LayoutId {
        self.object(object).1.layout()
    }

    /// A new record. `fields` are the values of all its fields, in the order in which the layout
    /// declares them.
    ///
    /// # Errors
    /// [`TrapKind::HeapFull`].
    ///
    /// # Panics
    /// If `fields` are not the layout's.
    pub fn new_record(
        &mut self,
        layout: LayoutId,
        fields: &[Val<'_>],
    ) -> Result<Handle<'s>, TrapKind> {
        let layouts = self.heap.module().layouts();
        let declared = layouts.fields(layout).to_vec();
        assert_eq!(fields.len(), declared.len(), "values for `{}`", layouts.name(layout));
        let header = layouts.template(layout);
        let record = self.allocate(header)?;
        for (&value, (_, field)) in fields.iter().zip(&declared) {
            match (field, value) {
                (AnyField::Reference(field), Val::Ref(value)) => {
                    self.store_ref(record, *field, value);
                }
                (AnyField::Scalar(field), _) => self.store(record, *field, value),
                (AnyField::Reference(_), _) => panic!("{value:?} for {field:?}"),
            }
        }
        Ok(record)
    }

    /// A new array of `length` elements, all null or 0.
    ///
    /// # Errors
    /// [`TrapKind::HeapFull`]; [`TrapKind::ArrayLength`] if no array has that length.
    pub fn new_array(
        &mut self,
        layout: ArrayLayout,
        length: usize,
    ) -> Result<Handle<'s>, TrapKind> {
        let layouts = self.heap.module().layouts();
        assert!(layouts.has_array(layout), "an array layout of another module");
        let template = layouts.template(layout.id());
        let header = u32::try_from(length)
            .map_err(|_| TrapKind::ArrayLength { length: length as i64 })
            .map(|length| template.with_length(length))?;
        self.allocate(header)
    }

    fn allocate(&mut self, header: Header) -> Result<Handle<'s>, TrapKind> {
        let object = self.heap.allocate(header)?;
        Ok(self.heap.handles_mut().push(object.address()))
    }

    /// The scalar in a field, as a value of type `ty`.
    ///
    /// # Panics
    /// If the handle holds null, the object has no such field, or `ty` is not of the field's size.
    pub fn load(&self, object: Handle<'_>, field: Field, ty: impl Into<Ty>) -> Val<'static> {
        let (object, _) = self.record(object, AnyField::Scalar(field));
        // SAFETY: the field lies in the object.
        unsafe { load(object.address() + field.offset() as usize, field.bytes(), ty.into()) }
    }

    /// Stores a scalar in a field.
    ///
    /// # Panics
    /// If the handle holds null, the object has no such field, or the value is not of its size.
    pub fn store(&mut self, object: Handle<'_>, field: Field, value: Val<'_>) {
        let (object, _) = self.record(object, AnyField::Scalar(field));
        // SAFETY: the field lies in the object.
        unsafe { store(object.address() + field.offset() as usize, field.bytes(), value) }
    }

    /// The reference in a field.
    ///
    /// # Panics
    /// If the handle holds null, or the object has no such field.
    pub fn load_ref(&mut self, object: Handle<'_>, field: RefField) -> Handle<'s> {
        let word = self.ref_slot(object, field).word();
        self.heap.handles_mut().push(word)
    }

    /// Stores a reference in a field.
    ///
    /// # Panics
    /// If the handle holds null, or the object has no such field.
    pub fn store_ref(&mut self, object: Handle<'_>, field: RefField, value: Handle<'_>) {
        self.ref_slot(object, field).store_word(self.heap.handles().word(value));
    }

    /// The number of elements of an array.
    ///
    /// # Panics
    /// If the handle does not refer to an array.
    pub fn array_length(&self, array: Handle<'_>) -> usize {
        let (_, header) = self.object(array);
        assert!(header.is_array(), "`{}` is no array", self.name(header));
        header.length()
    }

    /// The scalar at `index`, as a value of type `ty`.
    ///
    /// # Panics
    /// If the handle does not refer to an array of this layout, which has such an element.
    pub fn array_load(
        &self,
        array: Handle<'_>,
        layout: ArrayLayout,
        index: usize,
        ty: impl Into<Ty>,
    ) -> Val<'static> {
        let address = self.element(array, layout, index, false);
        // SAFETY: the element lies in the object.
        unsafe { load(address, layout.element_bytes, ty.into()) }
    }

    /// Stores a scalar at `index`.
    ///
    /// # Panics
    /// If the handle does not refer to an array of this layout, which has such an element.
    pub fn array_store(
        &mut self,
        array: Handle<'_>,
        layout: ArrayLayout,
        index: usize,
        value: Val<'_>,
    ) {
        let address = self.element(array, layout, index, false);
        // SAFETY: the element lies in the object.
        unsafe { store(address, layout.element_bytes, value) }
    }

    /// The reference at `index`.
    ///
    /// # Panics
    /// If the handle does not refer to an array of this layout, which has such an element.
    pub fn array_load_ref(
        &mut self,
        array: Handle<'_>,
        layout: ArrayLayout,
        index: usize,
    ) -> Handle<'s> {
        let address = self.element(array, layout, index, true);
        // SAFETY: the element lies in the object and holds a reference.
        let word = unsafe { Slot::at(address) }.word();
        self.heap.handles_mut().push(word)
    }

    /// Stores a reference at `index`.
    ///
    /// # Panics
    /// If the handle does not refer to an array of this layout, which has such an element.
    pub fn array_store_ref(
        &mut self,
        array: Handle<'_>,
        layout: ArrayLayout,
        index: usize,
        value: Handle<'_>,
    ) {
        let address = self.element(array, layout, index, true);
        // SAFETY: as in `array_load_ref`.
        unsafe { Slot::at(address) }.store_word(self.heap.handles().word(value));
    }

    /// The elements of an array of scalars of one byte. The borrow ends before anything can move it.
    ///
    /// # Panics
    /// If the handle refers to something else.
    pub fn bytes(&self, array: Handle<'_>) -> &[u8] {
        let (start, length) = self.byte_array(array);
        // SAFETY: the elements lie in the object, which stays where it is as long as this scope is
        // borrowed: only its exclusive borrow reaches a safepoint.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(start), length) }
    }

    /// The elements of an array of scalars of one byte, to be written to.
    ///
    /// # Panics
    /// If the handle refers to something else.
    pub fn bytes_mut(&mut self, array: Handle<'_>) -> &mut [u8] {
        let (start, length) = self.byte_array(array);
        // SAFETY: as in `bytes`; the scope is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(start), length) }
    }

    /// The reference in a global.
    pub fn load_global(&mut self, global: Global) -> Handle<'s> {
        let word = self.heap.global(global).word();
        self.heap.handles_mut().push(word)
    }

    /// Stores a reference in a global, where it outlives all scopes.
    pub fn store_global(&mut self, global: Global, value: Handle<'_>) {
        self.heap.global(global).store_word(self.heap.handles().word(value));
    }

    /// What compiled code threw and did not catch: the reference that came with the last
    /// [`TrapKind::Uncaught`]. It is taken: the next call gives null.
    pub fn take_thrown(&mut self) -> Handle<'s> {
        let word = self.heap.take_uncaught();
        self.heap.handles_mut().push(word)
    }

    /// For a host function to fail with: an exception for the compiled code that called it, which
    /// [`crate::jit::Emit::try_call`] catches. It is that of the call in which it was made.
    pub fn throw(&mut self, exception: Handle<'_>) -> HostError {
        let exception = self.heap.handles().word(exception);
        HostError::thrown(self.heap.throw(exception))
    }

    /// The number of the exception that the running host function is going to throw.
    pub(crate) fn throwing(&self) -> u64 {
        self.heap.throwing()
    }

    /// Collects garbage now.
    pub fn collect(&mut self) -> Cycle {
        self.heap.collect()
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        self.heap.statistics()
    }

    /// The code that the mutator runs.
    pub fn module(&self) -> &Module {
        self.heap.module()
    }

    /// Adds code: see [`Mutator::compile`].
    ///
    /// # Errors
    /// See [`Mutator::compile`].
    pub fn compile<T>(
        &mut self,
        body: impl FnOnce(&mut Module) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut body, mut made) = (Some(body), None);
        self.heap.compile(&mut |module| {
            let body = body.take().expect("it is called once");
            made = Some(body(module)?);
            Ok(())
        })?;
        Ok(made.expect("the body succeeded"))
    }

    /// The object of a handle, until the next safepoint, and its header.
    fn object(&self, handle: Handle<'_>) -> (GcRef, Header) {
        let object = self.heap.handles().reference(handle).expect("the handle refers to an object");
        // SAFETY: I8: what a handle holds refers to a live object.
        (object, unsafe { header::of(object) })
    }

    fn record(&self, handle: Handle<'_>, field: AnyField) -> (GcRef, Header) {
        let (object, header) = self.object(handle);
        let fields = self.heap.module().layouts().fields(header.layout());
        assert!(
            fields.iter().any(|(_, declared)| *declared == field),
            "`{}` has no {field:?}",
            self.name(header)
        );
        (object, header)
    }

    fn ref_slot(&self, object: Handle<'_>, field: RefField) -> Slot {
        let (object, _) = self.record(object, AnyField::Reference(field));
        // SAFETY: the field lies in the object and holds a reference.
        unsafe { Slot::at(object.address() + field.offset() as usize) }
    }

    fn element(
        &self,
        array: Handle<'_>,
        layout: ArrayLayout,
        index: usize,
        holds_references: bool,
    ) -> usize {
        let (object, header) = self.object(array);
        let name = self.name(header);
        let is_own = self.heap.module().layouts().has_array(layout);
        assert!(
            is_own && header.layout() == layout.id() && layout.holds_references == holds_references,
            "an access to `{name}` as an array of something else"
        );
        assert!(index < header.length(), "`{name}`[{index}] of {} elements", header.length());
        object.address() + WORD + index * layout.element_bytes as usize
    }

    fn byte_array(&self, array: Handle<'_>) -> (usize, usize) {
        let (object, header) = self.object(array);
        assert!(header.is_byte_array(), "`{}` is no array of bytes", self.name(header));
        (object.address() + WORD, header.length())
    }

    fn name(&self, header: Header) -> &str {
        self.heap.module().layouts().name(header.layout())
    }
}

/// Whether the arguments are what the function takes.
pub(crate) fn check_arguments(
    module: &Module,
    func: Func,
    arguments: &[Val<'_>],
) -> Result<(), CallError> {
    let expected = &module.signature(func).params;
    let given = arguments.iter().map(|val| val.ty());
    if given.clone().eq(expected.iter().copied()) {
        return Ok(());
    }
    let function = module.name(func).to_owned();
    Err(CallError::Arguments { function, expected: expected.clone(), given: given.collect() })
}

/// # Safety
/// `bytes` bytes can be read at `address`.
unsafe fn load(address: usize, bytes: u32, ty: Ty) -> Val<'static> {
    assert_eq!(ty.ir().bytes(), bytes, "a load of {ty:?} from {bytes} bytes");
    let mut word = [0; size_of::<u64>()];
    assert!(bytes as usize <= word.len(), "a value of {bytes} bytes does not cross to the host");
    // SAFETY: the caller's promise; the word is long enough.
    unsafe {
        let from = ptr::with_exposed_provenance::<u8>(address);
        ptr::copy_nonoverlapping(from, word.as_mut_ptr(), bytes as usize);
    }
    Val::from_word(ty, u64::from_le_bytes(word)).unwrap_or_else(|| panic!("a load of {ty:?}"))
}

/// # Safety
/// `bytes` bytes can be written at `address`, which no reference is in.
unsafe fn store(address: usize, bytes: u32, value: Val<'_>) {
    let word = value.to_word().unwrap_or_else(|_| panic!("{value:?} in the place of a scalar"));
    assert_eq!(value.ty().ir().bytes(), bytes, "a store of {value:?} to {bytes} bytes");
    // SAFETY: the caller's promise; a scalar has up to eight bytes.
    unsafe {
        let to = ptr::with_exposed_provenance_mut::<u8>(address);
        ptr::copy_nonoverlapping(word.to_le_bytes().as_ptr(), to, bytes as usize);
    }
}
