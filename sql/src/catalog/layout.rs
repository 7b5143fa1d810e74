//! The relations of the Postgres catalogue by name: which columns of which types they have. The list is data;
//! where rows come from is said in [`super::tables`] and [`super::information`].

use std::collections::HashMap;
use std::sync::LazyLock;

use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

use super::value::{Value, field_of};

/// A column of a relation.
#[derive(Debug)]
pub(crate) struct LayoutColumn {
    pub(crate) name: &'static str,
    /// Internal name of its type.
    pub(crate) pg_type: &'static str,
    pub(crate) not_null: bool,
}

/// A relation of `pg_catalog` or `information_schema`.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) oid: u32,
    /// `r` or `v`.
    pub(crate) kind: &'static str,
    pub(crate) columns: Vec<LayoutColumn>,
    places: HashMap<&'static str, usize>,
}

static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let mut list: Vec<Layout> = Vec::new();
    for line in include_str!("layout.txt").lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        if !line.starts_with(' ')
            && let Some((schema, name)) = words.next().and_then(|w| w.split_once('.'))
        {
            let oid = words.next().and_then(|w| w.parse().ok()).unwrap_or_default();
            let kind = words.next().unwrap_or("r");
            let (columns, places) = (Vec::new(), HashMap::new());
            list.push(Layout { schema, name, oid, kind, columns, places });
        }
        let Some(layout) = list.last_mut() else { continue };
        for (name, pg_type) in words.filter_map(|word| word.split_once(':')) {
            let not_null = pg_type.ends_with('!');
            let pg_type = pg_type.trim_end_matches('!');
            layout.places.insert(name, layout.columns.len());
            layout.columns.push(LayoutColumn { name, pg_type, not_null });
        }
    }
    list
});

/// All of them.
pub(crate) fn all() -> &'static [Layout] {
    &LAYOUTS
}

/// The one of this name.
pub(crate) fn find(schema: &str, name: &str) -> Option<&'static Layout> {
    static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), usize>> = LazyLock::new(|| {
        all().iter().enumerate().map(|(at, layout)| ((layout.schema, layout.name), at)).collect()
    });
    BY_NAME.get(&(schema, name)).and_then(|at| all().get(*at))
}

impl Layout {
    /// Where a column stands.
    pub(crate) fn place(&self, column: &str) -> Option<usize> {
        self.places.get(column).copied()
    }

    /// Its columns in Arrow.
    pub(crate) fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|c| field_of(c.name, c.pg_type, !c.not_null)).collect();
        Arc::new(Schema::new(fields))
    }
}

impl LayoutColumn {
    /// What stands where a row says nothing.
    pub(crate) fn default(&self) -> Value {
        if !self.not_null {
            return Value::Null;
        }
        match self.pg_type {
            "bool" => Value::Bool(false),
            "text" | "name" | "varchar" | "char" | "pg_node_tree" => Value::Text(String::new()),
            "float4" | "float8" => Value::Real(0.0),
            t if t.starts_with('_') || t.ends_with("vector") => Value::List(Vec::new()),
            _ => Value::Int(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read() {
        let class = find("pg_catalog", "pg_class").unwrap();
        assert_eq!((class.oid, class.kind, class.columns.len()), (1259, "r", 33));
        assert_eq!(class.columns[1].pg_type, "name");
        assert_eq!(class.place("relkind"), Some(16));
        assert!(all().len() > 200);
        assert!(find("information_schema", "columns").is_some());
    }
}
