//! A user who sees a part of the rows, and which rows that part is.

use std::collections::HashSet;

use super::chance::Chance;
use super::compare::Cell;
use super::run;
use super::table::{Kind, Table};
use super::world::World;
use crate::access::{GrantDef, RoleDef};

/// The condition of the rows: of dimensions more often than not.
pub(super) fn condition(table: &Table, seed: u64) -> String {
    let mut chance = Chance::new(seed, 7);
    let one = |chance: &mut Chance| {
        let first = table.def.rollups.first().filter(|_| chance.percent(75));
        let few: Vec<_> = table.columns.iter().filter(|c| c.few).collect();
        let named = first.map(|rollup| {
            let of = |c: &&&super::table::Column| {
                rollup.dimensions.iter().any(|d| d.sql.is_none() && d.name == c.name)
            };
            few.iter().filter(of).copied().collect::<Vec<_>>()
        });
        let column = match named.filter(|list| !list.is_empty()) {
            Some(list) => *chance.of(&list),
            None => *chance.of(&few),
        };
        let name = &column.sql;
        match column.kind {
            Kind::Text => match chance.below(3) {
                0 => format!("{name} IN ('a', 'zz', 'O''Brien')"),
                1 => format!("{name} < 'b'"),
                _ => format!("{name} IS NOT NULL"),
            },
            Kind::Bool => name.clone(),
            Kind::Int | Kind::Big => format!("{name} <> 7 AND {name} >= 0"),
            _ => format!("{name} IS NOT NULL"),
        }
    };
    match chance.below(4) {
        0 => format!("{} OR {}", one(&mut chance), one(&mut chance)),
        1 => format!("score < 500 AND ({})", one(&mut chance)),
        _ => one(&mut chance),
    }
}

/// The role of the user.
pub(super) fn role(table: &Table, seed: u64) -> RoleDef {
    let grant = GrantDef {
        tables: vec!["events".into()],
        filter: Some(condition(table, seed)),
        select: true,
        ..GrantDef::default()
    };
    RoleDef { name: "part".into(), grants: vec![grant], ..RoleDef::default() }
}

/// Partitions and offsets of the rows of a world that are the part.
pub(super) async fn rows(world: &World) -> HashSet<(i32, i64)> {
    let condition = condition(&world.table, world.seed);
    let sql = format!("SELECT _partition, _offset FROM events WHERE {condition}");
    let answer = run::answer(&world.session, &sql, vec![]).await.unwrap();
    let number = |cell: &Cell| match cell {
        Cell::Text(text) => text.parse::<i64>().unwrap(),
        other => panic!("{other}"),
    };
    let row = |row: &Vec<Cell>| (i32::try_from(number(&row[0])).unwrap(), number(&row[1]));
    answer.rows.iter().map(row).collect()
}
