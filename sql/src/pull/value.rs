//! The data model of pull: EDN's values, which JSON maps into. Lists and vectors compare equal, numbers of
//! different kinds do not (`1` is not `1.0`), and every value can be a map key. No DataFusion here.

use std::cmp::Ordering;
use std::sync::Arc;

/// A value of the EDN data model.
#[derive(Debug, Clone)]
pub enum Value {
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// An integer beyond 64 bits: canonical digits, with `-` if negative.
    BigInt(Arc<str>),
    /// An exact decimal, as written, without the `M`.
    Decimal(Arc<str>),
    /// A float of 64 bits.
    Float(f64),
    /// A string.
    String(Arc<str>),
    /// A character.
    Char(char),
    /// A keyword, without the colon.
    Keyword(Arc<str>),
    /// A symbol.
    Symbol(Arc<str>),
    /// A list.
    List(Vec<Value>),
    /// A vector.
    Vector(Vec<Value>),
    /// A map with keys of any kind.
    Map(Map),
    /// A set, sorted.
    Set(Vec<Value>),
    /// `#inst`: a moment, with the offset it is shown in.
    Inst {
        /// Microseconds since 1970-01-01T00:00:00Z.
        micros: i64,
        /// Seconds east of UTC in which it is written.
        offset: i32,
    },
    /// `#uuid`: canonical lower-case text.
    Uuid(Arc<str>),
}

impl Value {
    /// A keyword.
    pub fn keyword(text: impl AsRef<str>) -> Self {
        Self::Keyword(Arc::from(text.as_ref()))
    }
    /// A symbol.
    pub fn symbol(text: impl AsRef<str>) -> Self {
        Self::Symbol(Arc::from(text.as_ref()))
    }
    /// A string.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::String(Arc::from(text.as_ref()))
    }
    /// A set; `None` if an element stands twice.
    pub fn set(mut items: Vec<Self>) -> Option<Self> {
        items.sort();
        if items.windows(2).any(|w| w.first() == w.get(1)) {
            return None;
        }
        Some(Self::Set(items))
    }
    /// Whether this is `nil`.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }
    /// The elements of a list or vector.
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) | Self::Vector(items) => Some(items),
            _ => None,
        }
    }
    /// The map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }
    /// The text of a string, keyword or symbol: how names are given in either spelling.
    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Keyword(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }
    /// What kind of value this is, for messages; never the value itself.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::BigInt(_) => "an integer",
            Self::Decimal(_) => "a decimal",
            Self::Float(_) => "a float",
            Self::String(_) => "a string",
            Self::Char(_) => "a character",
            Self::Keyword(_) => "a keyword",
            Self::Symbol(_) => "a symbol",
            Self::List(_) => "a list",
            Self::Vector(_) => "a vector",
            Self::Map(_) => "a map",
            Self::Set(_) => "a set",
            Self::Inst { .. } => "an instant",
            Self::Uuid(_) => "a uuid",
        }
    }
    /// Values in this one, itself included.
    pub fn node_count(&self) -> usize {
        match self {
            Self::List(items) | Self::Vector(items) | Self::Set(items) => {
                items.iter().map(Self::node_count).sum::<usize>() + 1
            }
            Self::Map(map) => {
                map.iter().map(|(k, v)| k.node_count() + v.node_count()).sum::<usize>() + 1
            }
            _ => 1,
        }
    }

    /// Order of two numbers by size, whatever their kinds; `None` if one is not a number.
    pub fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(_), _) | (_, Self::Float(_)) => {
                self.as_float()?.partial_cmp(&other.as_float()?)
            }
            _ => Some(compare_exact(&self.exact_text()?, &other.exact_text()?)),
        }
    }

    /// The number as a float; `None` if not a number.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "used for comparison with floats only")]
            Self::Int(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            Self::BigInt(text) | Self::Decimal(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn exact_text(&self) -> Option<Arc<str>> {
        match self {
            Self::Int(n) => Some(Arc::from(n.to_string())),
            Self::BigInt(text) | Self::Decimal(text) => Some(Arc::clone(text)),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Nil => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::BigInt(_) => 3,
            Self::Decimal(_) => 4,
            Self::Float(_) => 5,
            Self::Char(_) => 6,
            Self::String(_) => 7,
            Self::Keyword(_) => 8,
            Self::Symbol(_) => 9,
            Self::List(_) | Self::Vector(_) => 10,
            Self::Set(_) => 11,
            Self::Map(_) => 12,
            Self::Inst { .. } => 13,
            Self::Uuid(_) => 14,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::BigInt(a), Self::BigInt(b)) | (Self::Decimal(a), Self::Decimal(b)) => {
                compare_exact(a, b)
            }
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Char(a), Self::Char(b)) => a.cmp(b),
            (Self::String(a), Self::String(b))
            | (Self::Keyword(a), Self::Keyword(b))
            | (Self::Symbol(a), Self::Symbol(b))
            | (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::List(a) | Self::Vector(a), Self::List(b) | Self::Vector(b))
            | (Self::Set(a), Self::Set(b)) => a.cmp(b),
            (Self::Map(a), Self::Map(b)) => a.cmp(b),
            (Self::Inst { micros: a, .. }, Self::Inst { micros: b, .. }) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}
impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Value {}

/// A map that keeps the order of its entries; in a large one a key is found by binary search. Documents
/// have millions of small ones, which therefore hold nothing beside their entries.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: Vec<(Value, Value)>,
    index: Option<Box<Index>>,
}

/// Entries up to which a map is searched from its beginning.
const SMALL: usize = 8;

/// Places of entries in the order of their keys.
#[derive(Debug, Clone)]
struct Index(Vec<u32>);

impl Index {
    fn of(entries: &[(Value, Value)]) -> Self {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut sorted: Vec<u32> = (0..count).collect();
        let key = |i: &u32| entries.get(*i as usize).map(|(key, _)| key);
        sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        Self(sorted)
    }
}

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }
    /// A map of these entries; the key that stands twice if there is one.
    pub fn from_entries(mut entries: Vec<(Value, Value)>) -> Result<Self, Value> {
        entries.shrink_to_fit();
        if entries.len() <= SMALL {
            let mut before = entries.iter().enumerate();
            let twice = before.find(|(i, (key, _))| entries.iter().take(*i).any(|(k, _)| k == key));
            return match twice {
                Some((_, (key, _))) => Err(key.clone()),
                None => Ok(Self { entries, index: None }),
            };
        }
        let index = Index::of(&entries);
        let key = |i: &u32| entries.get(*i as usize).map(|(key, _)| key);
        let twice = index.0.windows(2).find_map(|pair| match pair {
            [a, b] if key(a) == key(b) => key(a).cloned(),
            _ => None,
        });
        match twice {
            Some(key) => Err(key),
            None => Ok(Self { entries, index: Some(Box::new(index)) }),
        }
    }
    /// An empty map with room for this many entries.
    pub fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), index: None }
    }
    /// Adds an entry or replaces the value of an equal key.
    pub fn insert(&mut self, key: Value, value: Value) {
        match self.find(&key) {
            Ok(index) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.1 = value;
                }
            }
            Err(place) => {
                let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push((key, value));
                match &mut self.index {
                    Some(index) => index.0.insert(place, number),
                    None if self.entries.len() > SMALL => {
                        self.index = Some(Box::new(Index::of(&self.entries)));
                    }
                    None => {}
                }
            }
        }
    }
    /// The value of a key.
    pub fn get(&self, key: &Value) -> Option<&Value> {
        self.find(key).ok().and_then(|i| self.entries.get(i)).map(|(_, value)| value)
    }
    /// The value of a keyword.
    pub fn get_keyword(&self, name: &str) -> Option<&Value> {
        self.get(&Value::keyword(name))
    }
    /// Keeps the entries that `keep` says, after it may have changed their values.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&Value, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
        let entries = std::mem::take(&mut self.entries);
        // Keys were distinct before, so they are now.
        if let Ok(map) = Self::from_entries(entries) {
            *self = map;
        }
    }
    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Value, Value)> {
        self.entries.iter()
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    /// The entries in order.
    pub fn into_entries(self) -> Vec<(Value, Value)> {
        self.entries
    }

    /// The entry of a key, or its place in the index.
    fn find(&self, key: &Value) -> Result<usize, usize> {
        let Some(index) = &self.index else {
            return self.entries.iter().position(|(k, _)| k == key).ok_or(self.entries.len());
        };
        let found = index.0.binary_search_by(|i| match self.entries.get(*i as usize) {
            Some((found, _)) => found.cmp(key),
            None => Ordering::Greater,
        });
        found.map(|place| index.0.get(place).map_or(0, |i| *i as usize))
    }

    fn sorted_entries(&self) -> impl Iterator<Item = &(Value, Value)> {
        let mut order: Vec<&(Value, Value)> = match &self.index {
            Some(index) => index.0.iter().filter_map(|i| self.entries.get(*i as usize)).collect(),
            None => self.entries.iter().collect(),
        };
        if self.index.is_none() {
            order.sort_by(|a, b| a.0.cmp(&b.0));
        }
        order.into_iter()
    }
}

impl Ord for Map {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sorted_entries().cmp(other.sorted_entries())
    }
}
impl PartialOrd for Map {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Map {}

/// Sign, significant digits and the power of ten of the first digit (`0.d1d2… × 10^exponent`).
struct Exact {
    sign: i8,
    digits: Vec<u8>,
    exponent: i64,
}

fn exact(text: &str) -> Exact {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, power) = match rest.split_once(['e', 'E']) {
        Some((mantissa, power)) => {
            // A power beyond 64 bits keeps its sign only; the digits still decide ties.
            let far = if power.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
            (mantissa, power.parse().unwrap_or(far).clamp(i64::MIN / 4, i64::MAX / 4))
        }
        None => (rest, 0_i64),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let zeros = all.iter().take_while(|b| **b == b'0').count();
    let mut digits: Vec<u8> = all.into_iter().skip(zeros).collect();
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    let places = i64::try_from(whole.len()).unwrap_or(0) - i64::try_from(zeros).unwrap_or(0);
    let sign = if digits.is_empty() {
        0
    } else if negative {
        -1
    } else {
        1
    };
    Exact { sign, digits, exponent: if sign == 0 { 0 } else { power + places } }
}

/// Order of two decimal texts by size.
fn compare_exact(a: &str, b: &str) -> Ordering {
    let (a, b) = (exact(a), exact(b));
    let size = || a.exponent.cmp(&b.exponent).then_with(|| a.digits.cmp(&b.digits));
    a.sign.cmp(&b.sign).then_with(|| if a.sign < 0 { size().reverse() } else { size() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_by_size() {
        let order = ["-12", "-1.5", "-1.25e-3", "0", "0.001", "0.01", "1.50", "2", "10", "1e3"];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(compare_exact(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(Value::Decimal("1.5".into()), Value::Decimal("1.500".into()));
        assert_eq!(compare_exact("-0", "0.000"), Ordering::Equal);
        let mixed = Value::Int(2).compare_numbers(&Value::Decimal("1.999".into()));
        assert_eq!(mixed, Some(Ordering::Greater));
    }

    #[test]
    fn maps_find_any_key_and_refuse_two_of_a_kind() {
        let key = Value::Vector(vec![Value::Int(1), Value::Nil]);
        let same = Value::List(vec![Value::Int(1), Value::Nil]);
        let map = Map::from_entries(vec![
            (Value::keyword("b"), Value::Int(1)),
            (key, Value::Int(2)),
            (Value::text("b"), Value::Int(3)),
        ]);
        let mut map = map.unwrap();
        assert_eq!(map.get(&same), Some(&Value::Int(2)));
        map.insert(Value::keyword("a"), Value::Int(4));
        map.insert(Value::text("b"), Value::Int(5));
        assert_eq!((map.len(), map.get(&Value::text("b"))), (4, Some(&Value::Int(5))));
        let twice = vec![(Value::Int(1), Value::Nil), (Value::Int(1), Value::Nil)];
        assert_eq!(Map::from_entries(twice).unwrap_err(), Value::Int(1));
    }
}
