//! What every Postgres has: types, functions, operators, casts and the like, as datafusion-pg-catalog ships them.
//! Its text becomes what the columns are: ids of functions and types, vectors, arrays. Read once per process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use datafusion::error::Result as DfResult;
use datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogStaticTables};

use super::PG_SCHEMA;
use super::layout::{self, Layout, LayoutColumn};
use super::value::{REG_TYPES, Rows, Value, values};
use crate::error::{SqlError, SqlResult};

/// Id of `pg_catalog` itself.
pub(crate) const PG_NAMESPACE: u32 = 11;

/// The table function that gives the words of SQL.
pub(crate) const KEYWORDS: &str = "pg_get_keywords";

/// A type.
#[derive(Debug, Clone)]
pub(crate) struct PgType {
    pub(crate) oid: u32,
    /// Internal name, `int8`, `_text`.
    pub(crate) name: String,
    /// Bytes of a value, negative if they vary.
    pub(crate) bytes: i64,
    pub(crate) by_value: bool,
    pub(crate) align: String,
    pub(crate) storage: String,
    pub(crate) collation: u32,
    /// Type of its elements, if it is an array.
    pub(crate) element: u32,
}

/// A function.
#[derive(Debug, Clone)]
pub(crate) struct PgFunction {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) arguments: Vec<u32>,
    pub(crate) returns: u32,
    pub(crate) returns_set: bool,
    /// `i`, `s` or `v`.
    pub(crate) volatile: String,
    /// `s`, `r` or `u`.
    pub(crate) parallel: String,
    pub(crate) strict: bool,
    /// What it is called inside.
    pub(crate) source: String,
}

/// The tables that are the same in every database, and their names by id.
#[derive(Debug, Default)]
pub(crate) struct Library {
    tables: HashMap<&'static str, RecordBatch>,
    types: BTreeMap<u32, PgType>,
    type_ids: HashMap<String, u32>,
    functions: BTreeMap<u32, PgFunction>,
    function_ids: HashMap<String, Vec<u32>>,
    operators: BTreeMap<u32, (String, u32, u32)>,
    comments: HashMap<(u32, u32), String>,
}

static LIBRARY: LazyLock<Result<Library, SqlError>> =
    LazyLock::new(|| Library::read().map_err(SqlError::from));

/// The one of the process.
pub(crate) fn library() -> SqlResult<&'static Library> {
    LIBRARY.as_ref().map_err(Clone::clone)
}

impl Library {
    fn read() -> DfResult<Self> {
        let data = PgCatalogStaticTables::try_new()?;
        let mut library = Self::default();
        library.read_functions(&data.pg_proc)?;
        library.read_types(&data.pg_type)?;
        for (name, table) in sources(&data) {
            let Some(layout) = layout::find(PG_SCHEMA, name) else { continue };
            let batch = library.table(layout, table)?;
            library.tables.insert(layout.name, batch);
        }
        let keywords = &data.pg_get_keywords;
        let words = concat_batches(&keywords.schema(), keywords.data())?;
        library.tables.insert(KEYWORDS, words);
        library.read_operators(&data.pg_operator)?;
        library.read_comments(&data.pg_description)?;
        Ok(library)
    }

    fn read_functions(&mut self, table: &ArrowTable) -> DfResult<()> {
        for row in Raw::of(table)?.rows() {
            let arguments = row.text("proargtypes");
            let function = PgFunction {
                oid: row.oid("oid"),
                name: row.text("proname"),
                arguments: arguments.split(' ').filter_map(|id| id.parse().ok()).collect(),
                returns: row.oid("prorettype"),
                returns_set: row.get("proretset") == Value::Bool(true),
                volatile: row.text("provolatile"),
                parallel: row.text("proparallel"),
                strict: row.get("proisstrict") == Value::Bool(true),
                source: row.text("prosrc"),
            };
            self.function_ids.entry(function.name.clone()).or_default().push(function.oid);
            self.functions.insert(function.oid, function);
        }
        self.function_ids.values_mut().for_each(|ids| ids.sort_unstable());
        Ok(())
    }

    fn read_types(&mut self, table: &ArrowTable) -> DfResult<()> {
        let raw = Raw::of(table)?;
        // Rows of tables are no types here.
        let of_tables: HashSet<u32> =
            raw.rows().filter(|row| row.oid("typrelid") != 0).map(|row| row.oid("oid")).collect();
        for row in raw.rows() {
            let (oid, element) = (row.oid("oid"), row.oid("typelem"));
            if of_tables.contains(&oid) || of_tables.contains(&element) {
                continue;
            }
            let pg_type = PgType {
                oid,
                name: row.text("typname"),
                bytes: row.get("typlen").int().unwrap_or(-1),
                by_value: row.get("typbyval") == Value::Bool(true),
                align: row.text("typalign"),
                storage: row.text("typstorage"),
                collation: row.oid("typcollation"),
                element,
            };
            if row.oid("typnamespace") == PG_NAMESPACE {
                self.type_ids.insert(pg_type.name.clone(), oid);
            }
            self.types.insert(oid, pg_type);
        }
        Ok(())
    }

    fn read_operators(&mut self, table: &ArrowTable) -> DfResult<()> {
        for row in Raw::of(table)?.rows() {
            let sides = (row.text("oprname"), row.oid("oprleft"), row.oid("oprright"));
            self.operators.insert(row.oid("oid"), sides);
        }
        Ok(())
    }

    fn read_comments(&mut self, table: &ArrowTable) -> DfResult<()> {
        for row in Raw::of(table)?.rows().filter(|row| row.oid("objsubid") == 0) {
            self.comments.insert((row.oid("classoid"), row.oid("objoid")), row.text("description"));
        }
        Ok(())
    }

    fn table(&self, layout: &'static Layout, table: &ArrowTable) -> DfResult<RecordBatch> {
        let raw = Raw::of(table)?;
        let mut rows = Rows::new(layout);
        let mut aggregates: HashMap<String, usize> = HashMap::new();
        for row in raw.rows().filter(|row| self.is_shown(layout.name, row)) {
            let mut line = Vec::with_capacity(layout.columns.len());
            for column in &layout.columns {
                let value = match (column.name, row.get(column.name)) {
                    // Aggregates of one name are listed in the order of their ids.
                    ("aggfnoid", Value::Text(name)) => {
                        let name = name.trim_start_matches("pg_catalog.").to_owned();
                        let place = aggregates.entry(name.clone()).or_default();
                        *place += 1;
                        let ids = self.function_ids.get(&name);
                        let id = ids.and_then(|ids| ids.get(*place - 1).or(ids.first()));
                        id.copied().map_or(Value::Int(0), Value::from)
                    }
                    (_, value) => self.typed(column, value),
                };
                line.push((column.name, value));
            }
            rows.push(line);
        }
        rows.batch()
    }

    fn is_shown(&self, table: &str, row: &RawRow) -> bool {
        match table {
            "pg_type" => self.types.contains_key(&row.oid("oid")),
            // What text is ordered by: code points.
            "pg_collation" => {
                let name = row.text("collname");
                ["default", "C", "POSIX", "ucs_basic"].contains(&name.as_str())
            }
            "pg_language" => row.text("lanname") != "plpgsql",
            _ => true,
        }
    }

    fn typed(&self, column: &LayoutColumn, value: Value) -> Value {
        let Value::Text(text) = &value else { return value };
        match column.pg_type {
            reg if REG_TYPES.contains(&reg) => Value::from(self.reg(reg, text)),
            "int2vector" | "oidvector" => {
                let ids = text.split_whitespace().filter_map(|id| id.parse::<i64>().ok());
                Value::List(ids.map(Value::Int).collect())
            }
            array if array.starts_with('_') => elements(text),
            _ => value,
        }
    }

    fn reg(&self, kind: &str, text: &str) -> u32 {
        let name = text.trim_start_matches("pg_catalog.");
        match (text.parse::<u32>(), kind) {
            (Ok(id), _) => id,
            (_, "regtype") => self.type_ids.get(name).copied().unwrap_or_default(),
            _ => self.function(name).map_or(0, |function| function.oid),
        }
    }

    /// One of the tables that never change.
    pub(crate) fn rows(&self, table: &str) -> Option<&RecordBatch> {
        self.tables.get(table)
    }

    /// The type of an internal name.
    pub(crate) fn type_named(&self, name: &str) -> Option<&PgType> {
        self.type_ids.get(name).and_then(|id| self.types.get(id))
    }

    pub(crate) fn pg_type(&self, oid: u32) -> Option<&PgType> {
        self.types.get(&oid)
    }

    pub(crate) fn functions_named(&self, name: &str) -> &[u32] {
        self.function_ids.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first function of a name.
    pub(crate) fn function(&self, name: &str) -> Option<&PgFunction> {
        self.functions_named(name).first().and_then(|id| self.functions.get(id))
    }

    pub(crate) fn function_by_id(&self, oid: u32) -> Option<&PgFunction> {
        self.functions.get(&oid)
    }

    /// Name and sides of an operator.
    pub(crate) fn operator(&self, oid: u32) -> Option<&(String, u32, u32)> {
        self.operators.get(&oid)
    }

    pub(crate) fn operator_named(&self, name: &str) -> Option<u32> {
        self.operators.iter().find(|(_, (known, ..))| known == name).map(|(oid, _)| *oid)
    }

    /// What is said of an object of one of the tables.
    pub(crate) fn comment(&self, class: u32, object: u32) -> Option<&str> {
        self.comments.get(&(class, object)).map(String::as_str)
    }
}

fn sources(data: &PgCatalogStaticTables) -> [(&'static str, &ArrowTable); 20] {
    [
        ("pg_aggregate", data.pg_aggregate.as_ref()),
        ("pg_am", data.pg_am.as_ref()),
        ("pg_amop", data.pg_amop.as_ref()),
        ("pg_amproc", data.pg_amproc.as_ref()),
        ("pg_cast", data.pg_cast.as_ref()),
        ("pg_collation", data.pg_collation.as_ref()),
        ("pg_conversion", data.pg_conversion.as_ref()),
        ("pg_description", data.pg_description.as_ref()),
        ("pg_language", data.pg_language.as_ref()),
        ("pg_opclass", data.pg_opclass.as_ref()),
        ("pg_operator", data.pg_operator.as_ref()),
        ("pg_opfamily", data.pg_opfamily.as_ref()),
        ("pg_proc", data.pg_proc.as_ref()),
        ("pg_range", data.pg_range.as_ref()),
        ("pg_tablespace", data.pg_tablespace.as_ref()),
        ("pg_ts_config", data.pg_ts_config.as_ref()),
        ("pg_ts_dict", data.pg_ts_dict.as_ref()),
        ("pg_ts_parser", data.pg_ts_parser.as_ref()),
        ("pg_ts_template", data.pg_ts_template.as_ref()),
        ("pg_type", data.pg_type.as_ref()),
    ]
}

/// Columns as the library has them.
struct Raw(HashMap<String, Vec<Value>>, usize);

struct RawRow<'a>(&'a Raw, usize);

impl Raw {
    fn of(table: &ArrowTable) -> DfResult<Self> {
        let schema = table.schema();
        let mut columns: HashMap<String, Vec<Value>> = HashMap::new();
        for batch in table.data() {
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let column: &ArrayRef = column;
                columns.entry(field.name().clone()).or_default().extend(values(column)?);
            }
        }
        let rows = columns.values().map(Vec::len).max().unwrap_or_default();
        Ok(Self(columns, rows))
    }

    fn rows(&self) -> impl Iterator<Item = RawRow<'_>> {
        (0..self.1).map(|at| RawRow(self, at))
    }
}

impl RawRow<'_> {
    fn get(&self, column: &str) -> Value {
        let value = self.0.0.get(column).and_then(|values| values.get(self.1));
        value.cloned().unwrap_or(Value::Null)
    }
    fn oid(&self, column: &str) -> u32 {
        self.get(column).oid().unwrap_or_default()
    }
    fn text(&self, column: &str) -> String {
        self.get(column).text().unwrap_or_default().to_owned()
    }
}

/// The elements of an array in Postgres's text form.
pub(crate) fn elements(text: &str) -> Value {
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    if inner.is_empty() {
        return Value::List(Vec::new());
    }
    let (mut list, mut word, mut quoted, mut was_quoted) =
        (Vec::new(), String::new(), false, false);
    let mut letters = inner.chars();
    let mut finish = |word: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(word);
        let is_null = !std::mem::take(was_quoted) && text.eq_ignore_ascii_case("null");
        list.push(if is_null { Value::Null } else { Value::Text(text) });
    };
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (quoted, was_quoted) = (!quoted, true),
            '\\' => word.extend(letters.next()),
            ',' if !quoted => finish(&mut word, &mut was_quoted),
            letter => word.push(letter),
        }
    }
    finish(&mut word, &mut was_quoted);
    Value::List(list)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::UInt32Type;

    use super::*;

    #[test]
    fn types_have_ids_of_their_functions() {
        let library = library().unwrap();
        let types = library.rows("pg_type").unwrap();
        let input = types.column_by_name("typreceive").unwrap();
        let input = input.as_primitive::<UInt32Type>();
        let receive = library.function("boolrecv").unwrap().oid;
        assert!(input.iter().flatten().any(|id| id == receive));
        assert_eq!(library.type_named("_int8").unwrap().element, 20);
        assert!(library.type_named("pg_class").is_none());
    }

    #[test]
    fn arrays_are_read() {
        let text = |t: &str| Value::Text(t.into());
        assert_eq!(elements("{}"), Value::List(vec![]));
        assert_eq!(
            elements("{a,\"b,c\",NULL}"),
            Value::List(vec![text("a"), text("b,c"), Value::Null])
        );
    }
}
