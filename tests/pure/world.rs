//! A mutator made of plain Rust, and a model of what it did: nodes with indices in place of
//! addresses.

use std::cell::Cell;
use std::ops::Range;
use std::{ptr, slice};

use tospace::collector::{Collector, InlineAllocation};
use tospace::heap::{
    AllocationBuffer, ArrayLayout, GcRef, Header, HeaderWord, HeapOptions, LayoutId, Layouts,
    Record, Roots, RootsVisited, Slot, WORD, allocation::MAX_INLINE_CELL, header, verify,
};

/// The verifier takes most of the time, and Miri has little of it: not after each collection there.
const VERIFY_EVERY: u64 = if cfg!(miri) { 3 } else { 1 };

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Null, an immediate, or a reference to memory that is not the collector's.
    Constant(usize),
    /// A reference to the node with this index.
    Node(usize),
}

pub const NULL: Word = Word::Constant(0);

/// An object as the model knows it. Its scalars follow from its index, and are those of no other.
struct Node {
    header: Header,
    bytes: usize,
    /// With their offsets.
    slots: Vec<(usize, Word)>,
    scalars: Vec<Range<usize>>,
}

/// What a new node shall be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One of the record layouts.
    Record(usize),
    /// An array of this many references.
    References(u32),
    /// An array of this many scalars, of 1, 2, 4, 8 or 16 bytes: two to this power.
    Scalars(u32, usize),
}

/// How many record layouts there are.
pub const RECORDS: usize = 5;

struct Layouted {
    layouts: Layouts,
    /// With the offsets of their slots and their scalars.
    records: Vec<(LayoutId, Vec<usize>, Vec<Range<usize>>)>,
    references: ArrayLayout,
    scalars: [ArrayLayout; 5],
}

impl Layouted {
    fn new() -> Self {
        let mut layouts = Layouts::default();
        // The number of payload words; each of them that a bit is set for holds a reference. 24 words
        // are the most that a header describes by itself.
        let shapes: [(usize, u64); RECORDS] =
            [(0, 0), (1, 1), (3, 0b101), (24, 0x80_0801), (40, 0xc0_0100_0002)];
        let records = shapes.map(|(words, references)| {
            let mut record = Record::new(format!("record of {words}"));
            let (mut slots, mut scalars) = (Vec::new(), Vec::new());
            for word in 0..words {
                if references >> word & 1 == 1 {
                    slots.push(record.reference("slot").offset() as usize);
                    continue;
                }
                let half = record.scalar("scalar", 4).unwrap();
                assert_eq!(half.offset() as usize, WORD + word * WORD);
                record.scalar("scalar", 1).unwrap();
                scalars.push(half.offset() as usize..half.offset() as usize + 5);
            }
            (layouts.record(record).unwrap(), slots, scalars)
        });
        Self {
            records: records.into(),
            references: layouts.references("references").unwrap(),
            scalars: [1, 2, 4, 8, 16].map(|bytes| layouts.scalars("scalars", bytes).unwrap()),
            layouts,
        }
    }

    fn node(&self, kind: Kind) -> Node {
        let array = |layout: ArrayLayout, length: usize| {
            self.layouts.template(layout.id()).with_length(length as u32)
        };
        let (header, slots, scalars) = match kind {
            Kind::Record(index) => {
                let (layout, slots, scalars) = self.records[index].clone();
                (self.layouts.template(layout), slots, scalars)
            }
            Kind::References(length) => {
                let slots = (1..=length as usize).map(|word| word * WORD).collect();
                (array(self.references, length as usize), slots, Vec::new())
            }
            Kind::Scalars(log2, length) => {
                let end = WORD + (length << log2);
                let scalars = if cfg!(miri) && end > 128 {
                    [WORD..64, end - 64..end]
                } else {
                    [WORD..end, end..end]
                };
                (array(self.scalars[log2 as usize], length), Vec::new(), scalars.into())
            }
        };
        let slots = slots.into_iter().map(|offset| (offset, NULL)).collect();
        Node { header, bytes: header.bytes(&self.layouts), slots, scalars }
    }
}

impl Node {
    /// The bytes of all scalars, by offset, in pieces of at most eight; this node is the one with that
    /// index.
    fn scalar_bytes(&self, index: usize) -> impl Iterator<Item = (usize, usize, [u8; WORD])> {
        self.scalars.iter().flat_map(move |range| {
            range.clone().step_by(WORD).map(move |offset| {
                let mixed = (index << 17 | offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (offset, WORD.min(range.end - offset), mixed.to_ne_bytes())
            })
        })
    }
}

/// The roots: words of the host's own memory.
struct RootWords(Vec<Cell<usize>>);

// SAFETY: a cell may be written to through a shared reference; the world holds references nowhere else
// when it collects.
unsafe impl Roots for RootWords {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        for word in &self.0 {
            // SAFETY: the cell's own word.
            visit(unsafe { Slot::at(word.as_ptr().expose_provenance()) });
        }
        RootsVisited { frames: 0, slots: self.0.len() as u64 }
    }
}

/// A collector, the roots, and the model of both.
pub struct World<C> {
    collector: C,
    buffer: AllocationBuffer,
    layouts: Layouted,
    roots: RootWords,
    nodes: Vec<Node>,
    /// What the model has in the roots.
    root_words: Vec<Word>,
    /// Memory of nobody's heap, shaped like an object.
    foreign: Box<[u64; 2]>,
    allocated_bytes: u64,
    pub collections: u64,
}

impl<C: Collector> World<C> {
    pub fn new(options: HeapOptions, roots: usize) -> Self {
        let layouts = Layouted::new();
        let header = layouts.layouts.template(layouts.records[1].0).bits();
        Self {
            collector: C::new(options).unwrap(),
            buffer: AllocationBuffer::EMPTY,
            layouts,
            roots: RootWords(vec![Cell::new(0); roots]),
            nodes: Vec::new(),
            root_words: vec![NULL; roots],
            foreign: Box::new([header, 0]),
            allocated_bytes: 0,
            collections: 0,
        }
    }

    /// A reference to memory outside of the heap.
    pub fn foreign(&self) -> usize {
        ptr::from_ref(&*self.foreign).expose_provenance()
    }

    /// An immediate that is nearly what a root holds.
    pub fn immediate(&self, root: usize) -> usize {
        self.roots.0[root].get() | 1
    }

    /// Puts null, an immediate or a foreign reference into a root.
    pub fn set_root(&mut self, index: usize, constant: usize) {
        self.write_root(index, constant, Word::Constant(constant));
    }

    fn write_root(&mut self, index: usize, word: usize, model: Word) {
        self.roots.0[index].set(word);
        self.root_words[index] = model;
    }

    /// The node that a root refers to, and how many slots it has.
    pub fn node_at(&self, root: usize) -> Option<(usize, usize)> {
        match self.root_words[root] {
            Word::Node(node) => Some((node, self.nodes[node].slots.len())),
            Word::Constant(_) => None,
        }
    }

    /// The slot with this number in the object that a root refers to, and in the model.
    fn slot(&mut self, root: usize, number: usize) -> (*mut usize, &mut Word) {
        let (node, _) = self.node_at(root).expect("the root refers to a node");
        let (offset, model) = &mut self.nodes[node].slots[number];
        (ptr::with_exposed_provenance_mut(self.roots.0[root].get() + *offset), model)
    }

    /// Stores what root `from` holds in a slot of the object that `root` refers to.
    pub fn store(&mut self, root: usize, number: usize, from: usize) {
        let (word, value) = (self.roots.0[from].get(), self.root_words[from]);
        let (slot, model) = self.slot(root, number);
        // SAFETY: a slot of a live object: the roots are up to date.
        unsafe { slot.write(word) };
        *model = value;
    }

    /// Loads a slot of the object that `root` refers to into the root `to`.
    pub fn load(&mut self, root: usize, number: usize, to: usize) {
        let (slot, &mut model) = self.slot(root, number);
        // SAFETY: a slot of a live object: the roots are up to date.
        let word = unsafe { slot.read() };
        self.write_root(to, word, model);
    }

    /// Makes the root `to` refer to a new object, whose slots are null. False if there is no room,
    /// even after a collection.
    pub fn allocate(&mut self, kind: Kind, to: usize) -> bool {
        let (index, node) = (self.nodes.len(), self.layouts.node(kind));
        let Some(object) = self.try_allocate(node.bytes).or_else(|| {
            self.collect();
            self.try_allocate(node.bytes)
        }) else {
            return false;
        };
        // SAFETY: the collector gave this many bytes that belong to no object.
        unsafe {
            let start = ptr::with_exposed_provenance_mut::<u8>(object.address());
            start.write_bytes(0, node.bytes);
            node.header.write(object);
            for (offset, length, bytes) in node.scalar_bytes(index) {
                start.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), length);
            }
        }
        self.allocated_bytes += node.bytes as u64;
        self.nodes.push(node);
        self.write_root(to, object.address(), Word::Node(index));
        true
    }

    /// As compiled code does it, and then its slow path.
    fn try_allocate(&mut self, bytes: usize) -> Option<GcRef> {
        let inline = match C::ATTRS.allocation {
            InlineAllocation::Bump => self.buffer.bump(bytes),
            InlineAllocation::FreeLists if bytes <= MAX_INLINE_CELL => {
                let list = &mut self.buffer.free_lists[bytes / WORD];
                let cell = GcRef::from_word(*list);
                if let Some(cell) = cell {
                    // SAFETY: the first word of a free cell is the link.
                    *list = unsafe { Slot::at(cell.address()) }.word();
                }
                cell
            }
            _ => None,
        };
        // SAFETY: the buffer is this collector's.
        inline.or_else(|| unsafe { self.collector.allocate(bytes, &mut self.buffer, &mut ()) })
    }

    /// Collects, verifies, and compares all that is reachable with the model.
    pub fn collect(&mut self) {
        let before: Vec<usize> = self.roots.0.iter().map(Cell::get).collect();
        let (layouts, buffer) = (&self.layouts.layouts, &mut self.buffer);
        // SAFETY: roots and slots hold what the model says.
        let cycle = unsafe { self.collector.collect(&self.roots, layouts, buffer, &mut ()) };
        self.collections += 1;
        assert_eq!(cycle.slots_visited, self.roots.0.len() as u64);

        let reachable = self.compare();
        let live = if C::ATTRS.frees { reachable } else { self.allocated_bytes };
        assert_eq!(cycle.live_bytes, live);
        if self.collections.is_multiple_of(VERIFY_EVERY) {
            let place = |reference| self.collector.place(reference, &self.buffer);
            // SAFETY: what the collector calls live can be read.
            assert_eq!(unsafe { verify(&self.roots, layouts, place) }, Ok(reachable));
        }
        for (root, before) in before.into_iter().enumerate() {
            let moved = self.roots.0[root].get() != before;
            let is_node = matches!(self.root_words[root], Word::Node(_));
            assert_eq!(moved, is_node && C::ATTRS.moves, "root {root}");
        }
        // SAFETY: the buffer is this collector's.
        let usage = unsafe { self.collector.usage(&self.buffer) };
        assert_eq!(usage.allocated_bytes, self.allocated_bytes);
        assert!(usage.peak_bytes <= usage.heap_bytes);
    }

    /// Compares all objects that are reachable with the model's nodes; their bytes.
    fn compare(&self) -> u64 {
        // The address of each node, or 0.
        let mut at = vec![0; self.nodes.len()];
        let mut grey = Vec::new();
        let mut check =
            |grey: &mut Vec<(usize, usize)>, found: usize, expected: Word| match expected {
                Word::Constant(constant) => assert_eq!(found, constant),
                Word::Node(node) => {
                    if at[node] == 0 {
                        at[node] = found;
                        grey.push((node, found));
                    }
                    assert_eq!(found, at[node], "node {node} is in two places");
                }
            };
        for (word, &expected) in self.roots.0.iter().zip(&self.root_words) {
            check(&mut grey, word.get(), expected);
        }
        let mut bytes = 0;
        while let Some((index, address)) = grey.pop() {
            let node = &self.nodes[index];
            let start = ptr::with_exposed_provenance::<u8>(address);
            // SAFETY: a live object, which is as large as the model says if it has that header.
            unsafe {
                let object = GcRef::from_word(address).expect("an object's address");
                assert_eq!(header::read(object), HeaderWord::Header(node.header), "node {index}");
                for &(offset, expected) in &node.slots {
                    check(&mut grey, Slot::at(address + offset).word(), expected);
                }
                for (offset, length, bytes) in node.scalar_bytes(index) {
                    let found = slice::from_raw_parts(start.add(offset), length);
                    assert_eq!(found, &bytes[..length], "node {index} at +{offset}");
                }
            }
            bytes += node.bytes as u64;
        }
        at.retain(|&address| address != 0);
        at.sort_unstable();
        assert!(at.is_sorted_by(|left, right| left < right), "two nodes are in one place");
        bytes
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        (0..self.roots.0.len()).for_each(|root| self.set_root(root, 0));
        // SAFETY: no root refers into the heap any more.
        unsafe { self.collector.reset(&mut self.buffer) };
        (self.nodes, self.allocated_bytes) = (Vec::new(), 0);
        // SAFETY: the buffer is this collector's.
        let usage = unsafe { self.collector.usage(&self.buffer) };
        assert_eq!(usage.allocated_bytes, 0);
    }

    /// Bytes that can be allocated without a collection, at the most.
    pub fn free_bytes(&self) -> u64 {
        // SAFETY: the buffer is this collector's.
        unsafe { self.collector.usage(&self.buffer) }.free_bytes
    }
}
