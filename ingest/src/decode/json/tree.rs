//! The declared fields of a table as a tree of keys, plus the undeclared keys met so far. Keys of records
//! usually come in the same order, so each key remembers which one followed it last, and that one is tried
//! before any look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use otus_engine::log::op::FieldSeen;
use otus_engine::position::TopicPartition;

use super::scan::Kind;

/// Most undeclared keys that one decoder remembers.
const UNDECLARED_MAX: usize = 1_000;
/// Longest undeclared key that is remembered, bytes.
const UNDECLARED_KEY_BYTES: usize = 128;
/// Names of the JSON types, in the order of the counters.
const JSON_TYPES: [&str; 6] = ["string", "number", "boolean", "object", "array", "null"];

/// FNV-1a: short keys, and few enough that nobody gains by making them collide.
#[derive(Debug, Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Index of a node in its tree.
pub(crate) type NodeId = usize;

/// Set of JSON types, a bit each in the order of [`JSON_TYPES`].
pub(crate) type TypeSet = u8;

#[derive(Debug, Clone, Default)]
struct Node {
    key: Box<[u8]>,
    path: String,
    children: Vec<NodeId>,
    by_key: HashMap<Box<[u8]>, usize, BuildHasherDefault<Fnv>>,
    /// Place of the child that came first last time.
    first_child: usize,
    /// Place of the sibling that followed this one last time.
    next: usize,
    /// Columns that take this very value.
    columns: Vec<usize>,
    /// Columns at or below this node.
    below: Vec<usize>,
    declared: bool,
    /// JSON types that the declared columns expect here.
    expected: TypeSet,
    /// Whether the key can be matched byte by byte against the record's text.
    plain: bool,
    /// The record in which this node was met last.
    stamp: u64,
    seen: [u64; 6],
    first: [i64; 6],
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    undeclared: usize,
}

impl Tree {
    pub(crate) const ROOT: NodeId = 0;

    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node { declared: true, ..Node::default() }], undeclared: 0 }
    }

    /// Declares that `column` takes the value at `path`, expected to be of the types `expected`.
    pub(crate) fn declare(&mut self, path: &[String], column: usize, expected: TypeSet) {
        let mut node = Self::ROOT;
        for key in path {
            node = match self.child(node, key.as_bytes()) {
                Some(child) => child,
                None => self.add(node, key.as_bytes(), true),
            };
            self.nodes[node].below.push(column);
        }
        self.nodes[node].columns.push(column);
        self.nodes[node].expected |= expected;
    }

    pub(crate) fn child(&self, node: NodeId, key: &[u8]) -> Option<NodeId> {
        let node = &self.nodes[node];
        node.by_key.get(key).map(|at| node.children[*at])
    }

    /// The place and key of the child that is likely to come after `before`, if that key can be matched byte by
    /// byte.
    #[inline]
    pub(crate) fn guess(&self, node: NodeId, before: Option<NodeId>) -> Option<(usize, &[u8])> {
        let at = match before {
            None => self.nodes[node].first_child,
            Some(before) => self.nodes[before].next,
        };
        let child = &self.nodes[*self.nodes[node].children.get(at)?];
        child.plain.then_some((at, &*child.key))
    }

    /// Remembers that the child at `at` came after `before`.
    pub(crate) fn learn(&mut self, node: NodeId, before: Option<NodeId>, at: usize) {
        match before {
            None => self.nodes[node].first_child = at,
            Some(before) => self.nodes[before].next = at,
        }
    }

    /// The place of the child with this key among its siblings. An unknown key is remembered while there is
    /// room.
    pub(crate) fn find_or_note(&mut self, node: NodeId, key: &[u8]) -> Option<usize> {
        if let Some(at) = self.nodes[node].by_key.get(key) {
            return Some(*at);
        }
        if self.undeclared >= UNDECLARED_MAX || key.len() > UNDECLARED_KEY_BYTES {
            return None;
        }
        self.undeclared += 1;
        self.add(node, key, false);
        Some(self.nodes[node].children.len() - 1)
    }

    pub(crate) fn child_at(&self, node: NodeId, at: usize) -> NodeId {
        self.nodes[node].children[at]
    }

    #[inline]
    pub(crate) fn columns(&self, node: NodeId) -> &[usize] {
        &self.nodes[node].columns
    }

    pub(crate) fn below(&self, node: NodeId) -> &[usize] {
        &self.nodes[node].below
    }

    #[inline]
    pub(crate) fn has_declared_children(&self, node: NodeId) -> bool {
        self.nodes[node].below.len() > self.nodes[node].columns.len()
    }

    pub(crate) fn is_declared(&self, node: NodeId) -> bool {
        self.nodes[node].declared
    }

    /// Whether a column takes the whole value here.
    pub(crate) fn takes_all(&self, node: NodeId) -> bool {
        !self.nodes[node].columns.is_empty()
    }

    /// Counts a value met at `node` in record number `stamp`; true if the record had one here before.
    #[inline]
    pub(crate) fn meet(&mut self, node: NodeId, kind: Kind, stamp: u64, offset: i64) -> bool {
        let node = &mut self.nodes[node];
        let index = type_index(kind);
        if node.seen[index] == 0 {
            node.first[index] = offset;
        }
        node.seen[index] += 1;
        std::mem::replace(&mut node.stamp, stamp) == stamp
    }

    /// What was seen of undeclared fields, and of declared ones with an unexpected type, since the last call.
    pub(crate) fn take_fields(&mut self, tp: &TopicPartition) -> Vec<FieldSeen> {
        let mut fields = Vec::new();
        for node in &mut self.nodes {
            for (index, json_type) in JSON_TYPES.iter().enumerate() {
                let count = std::mem::take(&mut node.seen[index]);
                let expected = node.declared
                    && (node.expected & (1 << index) != 0
                        || *json_type == "null"
                        || (node.columns.is_empty() && *json_type == "object"));
                if count > 0 && !expected {
                    fields.push(FieldSeen {
                        path: node.path.clone(),
                        json_type: (*json_type).to_string(),
                        count,
                        first: (tp.clone(), node.first[index]),
                    });
                }
            }
        }
        fields
    }

    fn add(&mut self, parent: NodeId, key: &[u8], declared: bool) -> NodeId {
        let id = self.nodes.len();
        let name = String::from_utf8_lossy(key);
        let above = &self.nodes[parent].path;
        let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        let plain = key.iter().all(|b| *b != b'"' && *b != b'\\' && *b >= 0x20);
        let next = self.nodes[parent].children.len() + 1;
        self.nodes.push(Node { key: key.into(), path, declared, plain, next, ..Node::default() });
        let siblings = &mut self.nodes[parent];
        siblings.by_key.insert(key.into(), siblings.children.len());
        siblings.children.push(id);
        id
    }
}

/// The set with the JSON types of these kinds.
pub(crate) fn type_set(kinds: &[Kind]) -> TypeSet {
    kinds.iter().fold(0, |set, kind| set | (1 << type_index(*kind)))
}

#[inline]
fn type_index(kind: Kind) -> usize {
    match kind {
        Kind::Text | Kind::EscapedText => 0,
        Kind::Number => 1,
        Kind::True | Kind::False => 2,
        Kind::Object => 3,
        Kind::Array => 4,
        Kind::Null | Kind::Missing => 5,
    }
}
