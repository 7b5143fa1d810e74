//! Sections of queries, right and wrong, with the exact problems they must give.

use super::super::{Config, SystemEnvironment};

#[test]
fn queries_are_planned_over_the_declared_tables() {
    let text = r#"
[tables.edits]
topic = "edits"
time = "at"
[tables.edits.columns]
at   = "timestamptz"
page = "text"

[queries.top_pages]
description = "The pages that were edited most"
sql = """
SELECT page, count(*) AS edits FROM edits WHERE at >= $from
GROUP BY page ORDER BY edits DESC LIMIT $n"""
parameters = { from = "timestamptz", n = { type = "bigint", default = 10 } }

[queries.pages]
sql = "SELECT DISTINCT page FROM edits"
"#;
    let compiler = otus_sql::SqlCompiler::new();
    let parse =
        |text: &str| Config::parse("otus.toml", text, &SystemEnvironment, Some(compiler.as_ref()));
    let config = parse(text).unwrap();
    let calls: Vec<_> = config.queries.iter().map(|q| q.signature()).collect();
    assert_eq!(calls, ["top_pages(from timestamptz, n bigint DEFAULT '10')", "pages()"]);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    let refused = |change: [&str; 2], expected: &str| {
        let problems = parse(&text.replace(change[0], change[1])).expect_err(change[1]);
        let shown: Vec<_> = problems.list.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [expected]);
    };
    refused(
        ["DISTINCT page", "DISTINCT pag"],
        "17:7: error: queries.pages.sql: column \"pag\" does not exist\n    hint: perhaps you meant the \
         column \"page\"",
    );
    refused(
        ["[queries.pages]", "[queries.edits]"],
        "16:10: error: queries.edits: there is a table \"edits\" already\n    hint: give the query \
         another name",
    );
    refused(
        ["n = { type", "m = { type"],
        "11:7: error: queries.top_pages.sql: $n is no declared parameter\n    hint: declared are \
         $from, $m",
    );
    refused(
        ["LIMIT $n", ""],
        "14:38: error: queries.top_pages.parameters.n: parameter \"n\" is not used: the query has no $n",
    );
    refused(
        ["default = 10", "default = \"ten\""],
        "14:38: error: queries.top_pages.parameters.n: parameter \"n\" of query \"top_pages\": invalid \
         input syntax for type bigint: \"ten\"\n    hint: it is called as top_pages(from timestamptz, n \
         bigint DEFAULT 'ten')",
    );
    refused(
        ["\"timestamptz\", n", "\"moment\", n"],
        "14:23: error: queries.top_pages.parameters.from: unknown column type \"moment\"\n    hint: one \
         of boolean, smallint, integer, bigint, real, double precision, numeric(p,s), text, uuid, date, \
         timestamp, timestamptz, bytea, jsonb, or one of these with []",
    );
    refused(
        ["description =", "descripton ="],
        "10:1: error: queries.top_pages.descripton: unknown key \"descripton\"\n    hint: did you mean \
         \"description\"?",
    );
}
