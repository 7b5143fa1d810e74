//! The JSON decoder: one object per record, row by row. A first pass over the text notes the place of each
//! wanted value (of equal keys the last), a second turns them into typed values; only a row without fault is
//! appended, so a bad record costs no more than a good one.

use std::sync::Arc;

use otus_engine::Result;
use otus_engine::catalog::{ColumnSource, TableDef};
use otus_engine::expr::ExpressionCompiler;
use otus_engine::position::TopicPartition;
use otus_engine::types::ColumnType;

use super::reason::Reason;
use super::rows::Rows;
use super::value::Value;
use super::{Decoded, Decoder};
use crate::record::Record;

pub(crate) mod compact;
pub(crate) mod scan;
pub(crate) mod tree;

use scan::{Cursor, Kind, Malformed, Token, unescape};
use tree::{NodeId, Tree, TypeSet, type_set};

/// See the module.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    tp: TopicPartition,
    rows: Rows,
    walk: Walk,
    /// Columns taken by path.
    taken: Vec<usize>,
    outside: Vec<usize>,
    rest: Option<usize>,
}

/// The first pass and what it leaves.
#[derive(Debug)]
struct Walk {
    tree: Tree,
    tokens: Vec<Token>,
    stamp: u64,
    key: String,
}

impl JsonDecoder {
    pub(crate) fn new(
        table: &Arc<TableDef>,
        tp: &TopicPartition,
        compiler: &dyn ExpressionCompiler,
    ) -> Result<Self> {
        let rows = Rows::new(table, tp, compiler)?;
        let mut tree = Tree::new();
        let (mut taken, mut outside, mut rest) = (Vec::new(), Vec::new(), None);
        for (at, column) in rows.columns().iter().enumerate() {
            match &column.def.source {
                ColumnSource::Path(path) => {
                    let expected =
                        natural_types(&column.def.column_type, column.def.epoch.is_some());
                    tree.declare(path, at, expected);
                    taken.push(at);
                }
                ColumnSource::Rest => rest = Some(at),
                ColumnSource::RecordTimestamp
                | ColumnSource::RecordKey
                | ColumnSource::RecordHeader(_) => outside.push(at),
                ColumnSource::Computed(_) => {}
            }
        }
        let tokens = vec![Token::MISSING; rows.columns().len()];
        let walk = Walk { tree, tokens, stamp: 0, key: String::new() };
        Ok(Self { tp: tp.clone(), rows, walk, taken, outside, rest })
    }

    fn row(&mut self, record: &Record<'_>, value: &[u8], at_us: i64) -> Result<(), Reason> {
        if value.len() > self.rows.record_bytes_max() {
            let (bytes, limit) = (value.len(), self.rows.record_bytes_max());
            return Err(Reason::new("the record is larger than the table's limit")
                .with(format!("{bytes} bytes, the limit is {limit}")));
        }
        let text = std::str::from_utf8(value)
            .map_err(|e| Reason::at_byte("bad JSON: not UTF-8", e.valid_up_to()))?;
        let root = self.walk.record(text, record.offset)?;
        self.rows.begin();
        for column in &self.taken {
            let token = self.walk.tokens[*column];
            let value = self.rows.convert(*column, text, token)?;
            self.rows.set(*column, value);
        }
        for column in &self.outside {
            self.rows.set_outside(*column, record)?;
        }
        if let Some(column) = self.rest {
            self.set_rest(column, text, root)?;
        }
        self.rows.end(record, text, at_us)
    }

    fn set_rest(&mut self, column: usize, text: &str, root: Token) -> Result<(), Reason> {
        let out = &mut self.rows.scratch.text;
        let start = out.len();
        let result = compact::rest(text, root, &self.walk.tree, out);
        let value = Value::Made(start, out.len());
        result.map_err(|e| {
            let name = &self.rows.columns()[column].def.name;
            compact::refusal(e).of_column(name)
        })?;
        self.rows.set(column, value);
        Ok(())
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, record: &Record<'_>, ingested_at_us: i64) {
        let Some(value) = record.value else {
            if !self.rows.is_keyed() {
                return self.rows.filter();
            }
            if let Err(reason) = self.rows.delete(record, ingested_at_us) {
                self.rows.reject(record, &reason, ingested_at_us);
            }
            return;
        };
        if let Err(reason) = self.row(record, value, ingested_at_us) {
            self.rows.reject(record, &reason, ingested_at_us);
        }
    }

    fn pending(&self) -> usize {
        self.rows.pending()
    }

    fn pending_bytes(&self) -> usize {
        self.rows.pending_bytes()
    }

    fn flush(&mut self) -> Result<Decoded> {
        let fields = self.walk.tree.take_fields(&self.tp);
        self.rows.flush(fields)
    }
}

impl Walk {
    /// Scans the text of a record, which must be one object, and notes the token of each column.
    fn record(&mut self, text: &str, offset: i64) -> Result<Token, Reason> {
        self.tokens.fill(Token::MISSING);
        self.stamp += 1;
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        let start = cursor.at();
        match cursor.peek() {
            None => return Err(Reason::new("empty value")),
            Some(b'{') => {}
            Some(_) => {
                let token = cursor.value(0)?;
                cursor.finish()?;
                let kind = match token.kind {
                    Kind::Array => "an array",
                    Kind::Number => "a number",
                    Kind::Text | Kind::EscapedText => "a string",
                    Kind::Null => "null",
                    _ => "a boolean",
                };
                return Err(Reason::new(format!("a JSON object expected, got {kind}")));
            }
        }
        self.object(&mut cursor, text, Tree::ROOT, 0, offset)?;
        let root = Token { kind: Kind::Object, start, end: cursor.at() };
        cursor.finish()?;
        Ok(root)
    }

    fn object(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
        node: NodeId,
        depth: usize,
        offset: i64,
    ) -> Result<(), Malformed> {
        cursor.open(depth)?;
        let mut first = true;
        let mut before = None;
        while cursor.seek_key(&mut first)? {
            let guess = self.tree.guess(node, before).filter(|(_, key)| cursor.take_key(key));
            let at = match guess {
                Some((at, _)) => at,
                None => match self.looked_up(cursor, text, node)? {
                    Some(at) => {
                        self.tree.learn(node, before, at);
                        at
                    }
                    None => {
                        cursor.seek_value()?;
                        cursor.value(depth + 1)?;
                        continue;
                    }
                },
            };
            cursor.seek_value()?;
            let child = self.tree.child_at(node, at);
            before = Some(child);
            self.field(cursor, text, child, depth + 1, offset)?;
        }
        Ok(())
    }

    fn looked_up(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
        node: NodeId,
    ) -> Result<Option<usize>, Malformed> {
        let key = cursor.string()?;
        let span = text.get(key.start..key.end).unwrap_or_default();
        if key.kind != Kind::EscapedText {
            return Ok(self.tree.find_or_note(node, span.as_bytes()));
        }
        self.key.clear();
        unescape(span, &mut self.key);
        Ok(self.tree.find_or_note(node, self.key.as_bytes()))
    }

    #[inline]
    fn field(
        &mut self,
        cursor: &mut Cursor<'_>,
        text: &str,
        node: NodeId,
        depth: usize,
        offset: i64,
    ) -> Result<(), Malformed> {
        let start = cursor.at();
        let inner = self.tree.has_declared_children(node);
        let mut token = Token { kind: Kind::Object, start, end: start };
        let opens = inner && cursor.peek() == Some(b'{');
        if !opens {
            token = cursor.value(depth)?;
        }
        let again = self.tree.meet(node, token.kind, self.stamp, offset);
        if again {
            for column in self.tree.below(node) {
                self.tokens[*column] = Token::MISSING;
            }
        }
        if opens {
            self.object(cursor, text, node, depth, offset)?;
            token.end = cursor.at();
        }
        for column in self.tree.columns(node) {
            self.tokens[*column] = token;
        }
        Ok(())
    }
}

/// JSON types that need no mention when a column of this type meets them.
fn natural_types(column_type: &ColumnType, epoch: bool) -> TypeSet {
    let kinds: &[Kind] = match column_type {
        ColumnType::Boolean => &[Kind::True],
        ColumnType::SmallInt
        | ColumnType::Integer
        | ColumnType::BigInt
        | ColumnType::Real
        | ColumnType::Double
        | ColumnType::Numeric { .. } => &[Kind::Number],
        ColumnType::Date | ColumnType::Timestamp | ColumnType::Timestamptz if epoch => {
            &[Kind::Number, Kind::Text]
        }
        ColumnType::Jsonb => {
            &[Kind::Text, Kind::Number, Kind::True, Kind::Object, Kind::Array, Kind::Null]
        }
        ColumnType::Array(_) => &[Kind::Array],
        _ => &[Kind::Text],
    };
    type_set(kinds)
}
