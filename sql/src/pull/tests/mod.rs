//! The vectors of the design, and the readers under hostile text.

mod compared;
mod live;
mod named;
mod server;

use super::answer::{Encoding, Parts, write_answer};
use super::data::{decode_form, pull_data};
use super::eval::{Answer, CallError, Host, evaluate};
use super::pattern::{Pattern, decode};
use super::problem::Problem;
use super::shape::{ArgumentShape, Kind, Shape, validate};
use super::text::ReadLimits;
use super::value::{Map, Value};
use super::{edn, json};

fn vectors(section: &str) -> Vec<Map> {
    let all = json::read(include_str!("../vectors.json"), ReadLimits::DOCUMENT).unwrap();
    let section = all.as_map().unwrap().get_keyword(section).unwrap().clone();
    let maps = section.as_sequence().unwrap().iter().map(|v| v.as_map().unwrap().clone());
    maps.collect()
}

fn text<'a>(map: &'a Map, key: &str) -> Option<&'a str> {
    map.get_keyword(key).and_then(Value::as_name)
}

fn read(text: &str) -> Value {
    edn::read(text, ReadLimits::DOCUMENT).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Symbols that begin with ƒ are functions.
struct Double;

impl Double {
    fn apply(name: &str, arguments: &[Value]) -> Result<Value, CallError> {
        let wrong = || CallError { code: "bad-argument", reason: "wrong arguments".into() };
        let int = |i: usize| match arguments.get(i) {
            Some(Value::Int(n)) => Ok(*n),
            _ => Err(wrong()),
        };
        Ok(match (name, arguments.len()) {
            ("square", 1) => Value::Int(int(0)? * int(0)?),
            ("add", 2) => Value::Int(int(0)? + int(1)?),
            ("now", 0) => Value::Int(1_724_115_600_000),
            ("report", 1) => read("{:rows [{:bucket 0, :plays 7, :z 1} {:bucket 1, :plays 9}]}"),
            ("even?", 1) => Value::Bool(int(0)? % 2 == 0),
            ("boom", _) => {
                return Err(CallError { code: "execution-error", reason: "failed".into() });
            }
            _ => return Err(wrong()),
        })
    }
    fn name(value: &Value) -> Option<&str> {
        match value {
            Value::Symbol(text) => text.strip_prefix('ƒ'),
            _ => None,
        }
    }
}

impl Host for Double {
    fn is_callable(&self, value: &Value) -> bool {
        Self::name(value).is_some()
    }
    fn call(&self, f: &Value, args: &[Value], _: &[Value], _: usize) -> Result<Value, CallError> {
        Self::apply(Self::name(f).unwrap(), args)
    }
    fn matches(&self, value: &Value, literal: &Value) -> bool {
        match Self::name(literal) {
            Some(name) => {
                Self::apply(name, std::slice::from_ref(value)).is_ok_and(|v| v == Value::Bool(true))
            }
            None => value == literal,
        }
    }
}

/// `:code at [:a] and [:b]` as code and paths.
fn expected_error(text: &str) -> (String, Vec<Value>) {
    let code = text.split_whitespace().next().unwrap().trim_start_matches(':').to_string();
    let paths = text.split('[').skip(1).map(|part| {
        let inner = part.split(']').next().unwrap();
        read(&format!("[{inner}]"))
    });
    (code, paths.collect())
}

fn check_problems(id: &str, found: &[Problem], expected: Option<&str>) {
    let Some(expected) = expected else {
        assert!(found.is_empty(), "{id}: {found:?}");
        return;
    };
    let (code, paths) = expected_error(expected);
    assert!(!found.is_empty() && found.iter().all(|p| p.code == code), "{id}: {found:?}");
    if !paths.is_empty() {
        let found: Vec<Value> = found.iter().map(|p| Value::Vector(p.path.clone())).collect();
        assert_eq!(found, paths, "{id}");
    }
}

fn run(pattern: &str, data: &str) -> Result<Answer, Vec<Problem>> {
    let pattern = pattern.replace(":when ƒ", ":when ");
    let pattern = decode_form(&read(&pattern), Encoding::Edn, &Map::new())?;
    Ok(evaluate(&pattern, &read(data), &Double))
}

fn vars_value(answer: &Answer) -> Value {
    let entries = answer.vars.iter().map(|(n, v)| (Value::symbol(format!("?{n}")), v.clone()));
    Value::Map(Map::from_entries(entries.collect()).unwrap())
}

#[test]
fn pull_vectors() {
    let all = vectors("pull");
    assert!(all.len() > 70);
    for vector in &all {
        let id = text(vector, "id").unwrap();
        let ours = vector.get_keyword("ours").and_then(Value::as_map);
        let source = ours.unwrap_or(vector);
        let error = ours.and_then(|ours| text(ours, "error"));
        let answer = match run(text(vector, "pattern").unwrap(), text(vector, "data").unwrap()) {
            Ok(answer) => answer,
            Err(problems) => {
                assert!(error.is_some(), "{id}: {problems:?}");
                check_problems(id, &problems, error);
                continue;
            }
        };
        check_problems(id, &answer.problems, error);
        if ours.is_none() && text(vector, "outcome") == Some("no-match") {
            assert!(answer.tree.is_none() && answer.vars.is_empty(), "{id}: {answer:?}");
            continue;
        }
        if let Some(tree) = text(source, "tree") {
            assert_eq!(answer.tree.as_ref(), Some(&read(tree)), "{id}");
        }
        if let Some(vars) = text(source, "vars") {
            assert_eq!(vars_value(&answer), read(vars), "{id}");
        }
    }
}

fn vectors_schema() -> Shape {
    let keys = |pairs: Vec<(&str, Shape)>| {
        Shape::Map(pairs.into_iter().map(|(name, shape)| (Value::keyword(name), shape)).collect())
    };
    let row = keys(vec![
        ("bucket", Shape::Leaf(Kind::Int)),
        ("plays", Shape::Leaf(Kind::Int)),
        ("region", Shape::Leaf(Kind::String)),
    ]);
    let query = ArgumentShape::Map(vec![
        ("granularity", Kind::Keyword, true),
        ("from", Kind::Int, true),
        ("to", Kind::Int, true),
    ]);
    let endpoint = |arguments, returns| Shape::Endpoint { arguments, returns: Box::new(returns) };
    keys(vec![
        (
            "meta",
            keys(vec![("version", Shape::Leaf(Kind::String)), ("tags", Shape::List(Kind::String))]),
        ),
        (
            "metrics",
            keys(vec![
                ("plays", endpoint(vec![query], Shape::Rows(Box::new(row)))),
                ("now", endpoint(vec![], Shape::Leaf(Kind::Int))),
            ]),
        ),
    ])
}

#[test]
fn schema_vectors() {
    let shape = vectors_schema();
    for vector in &vectors("schema") {
        let id = text(vector, "id").unwrap();
        let accepted = vector.get_keyword("ours").or(vector.get_keyword("accepted")).unwrap();
        let problems = match decode(&read(text(vector, "pattern").unwrap())) {
            Ok(pattern) => validate(&pattern, &shape),
            Err(problems) => problems,
        };
        assert_eq!(Value::Bool(problems.is_empty()), *accepted, "{id}: {problems:?}");
    }
}

#[track_caller]
fn check_spelling(edn_text: &str, json_text: &str) {
    let params = read("{:q {:g :hour}, :n 5}");
    let params = params.as_map().unwrap();
    let from_edn = decode_form(&read(edn_text), Encoding::Edn, params).unwrap();
    let form = json::read(json_text, ReadLimits::REQUEST).unwrap();
    assert_eq!(decode_form(&form, Encoding::Json, params).unwrap(), from_edn, "{json_text}");
}

#[test]
fn both_spellings_give_one_pattern() {
    check_spelling(
        "{:a ?, :b ?x, :c \"eu\", :d nil}",
        r#"{"a": "?", "b": "?x", "c": "eu", "d": null}"#,
    );
    check_spelling("{:a [{:n ?} ?r]}", r#"{"a": [{"n": "?"}, "?r"]}"#);
    check_spelling("{:a \"?x\", :b 5}", r#"{"a": {"$eq": "?x"}, "b": "$n"}"#);
    check_spelling("{:m {$q ?rows}}", r#"{"m": {"$q": "?rows"}}"#);
    check_spelling(
        "{(:a :with [{:g $n, :s \"?\"}] :as :b :seq [0 $n]) [{:n ?}], (:a :when even?) ?z}",
        r#"{"a": [{"$with": [{"g": "$n", "s": "?"}], "$as": "b", "$seq": [0, "$n"], "$get": [{"n": "?"}]},
                  {"$when": "even?", "$get": "?z"}]}"#,
    );
    check_spelling(
        "{(:a :when [:> 10] :not-found 0) ?}",
        r#"{"a": {"$when": [">", 10], "$not-found": 0, "$get": "?"}}"#,
    );
}

#[test]
fn documents_are_pulled_in_the_spelling_of_the_pattern() {
    let document =
        r#"{"site": {"name": "eu", "plays": 9007199254740993}, "rows": [{"n": 1}, {"n": null}]}"#;
    let pulled = pull_data(document, None, "{:site {:plays ?p}, :rows [{:n ?} ?r]}").unwrap();
    let tree = "{&? {:site {:plays 9007199254740993}, :rows [{:n 1} {:n nil}]}, \
                ?p 9007199254740993, ?r [{:n 1} {:n nil}]}";
    assert_eq!(pulled, tree);
    let pulled = pull_data(document, None, r#"{"site": {"plays": "?p"}}"#).unwrap();
    assert_eq!(
        pulled,
        r#"{"data":{"site":{"plays":"9007199254740993"}},"vars":{"p":"9007199254740993"}}"#
    );
    let refused = pull_data("{}", None, "{:a {:b ?x :c (1)}}").unwrap_err();
    assert!(refused.message().contains("[:a :c]"), "{refused}");
}

#[test]
fn order_of_keys_changes_nothing() {
    let data = "{:a 5, :b {:c 6, :d 1}, :rows [{:g 1, :n 2} {:g 2, :n 3}]}";
    let one = run("{:a ?x, :b {:c ?x, :d ?y}, :rows [{:g 1, :n ?z} ?r]}", data).unwrap();
    let two = run("{:rows [{:n ?z, :g 1} ?r], :b {:d ?y, :c ?x}, :a ?x}", data).unwrap();
    assert_eq!((&one.tree, vars_value(&one)), (&two.tree, vars_value(&two)));
    assert_eq!(one.tree, Some(read("{:b {:d 1}, :rows [{:n 2}]}")));
    assert_eq!(vars_value(&one), read("{?y 1, ?z 2, ?r [{:n 2}]}"));
}

#[test]
fn a_failing_row_takes_its_column_along() {
    let answer = run("{:rows [{:n {:a ?}, :g ?} ?r]}", "{:rows [{:n 1, :g 1} {:n {:a 2}, :g 2}]}");
    let answer = answer.unwrap();
    assert_eq!(answer.problems.len(), 1);
    assert_eq!(answer.tree, Some(read("{:rows [{:g 1} {:g 2}]}")));
    assert_eq!(vars_value(&answer), read("{?r [{:g 1} {:g 2}]}"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let found =
        decode(&read("{(:a :nope 1) ?, :b [?x], (:c :with 3) ?, :d {:e (1)}}")).unwrap_err();
    let paths: Vec<String> =
        found.iter().map(|p| edn::write(&Value::Vector(p.path.clone()))).collect();
    assert_eq!(paths, ["[:a]", "[:b]", "[:c]", "[:d :e]"]);
    let params = decode_form(&read("{:a $p, $q ?}"), Encoding::Edn, &Map::new()).unwrap_err();
    assert_eq!(params.iter().map(|p| p.code).collect::<Vec<_>>(), ["missing-parameter"; 2]);
    // At the place that any other mistake in an argument has.
    let form =
        "{:metrics {(:t :with [{:from $from}]) {:n ?}, (:u :as :v :batch [[{:to $to}]]) {:n ?}}}";
    let params = decode_form(&read(form), Encoding::Edn, &Map::new()).unwrap_err();
    let paths: Vec<_> = params.iter().map(|p| edn::write(&Value::Vector(p.path.clone()))).collect();
    assert_eq!(paths, ["[:metrics :t :with 0 :from]", "[:metrics :v :batch 0 0 :to]"]);
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = |open: &str, n: usize| open.repeat(n);
    for text in
        [deep("[", 100_000), deep("{:a ", 100_000), deep("#_ ", 100_000), deep("#inst ", 9999)]
    {
        let error = edn::read(&text, ReadLimits::DOCUMENT).unwrap_err();
        assert!(error.reason.contains("deeper"), "{error}");
    }
    for text in [deep("[", 100_000), deep("{\"a\":", 100_000)] {
        assert!(json::read(&text, ReadLimits::DOCUMENT).unwrap_err().reason.contains("deeper"));
    }
    let long = " ".repeat(ReadLimits::REQUEST.bytes + 1);
    assert!(edn::read(&long, ReadLimits::REQUEST).unwrap_err().reason.contains("longer"));
    let pattern = format!("{}{{:a ?}}{}", "{:a ".repeat(20), "}".repeat(20));
    assert_eq!(decode(&read(&pattern)).unwrap_err()[0].code, "bad-pattern");
    let many = format!("{{:a {{:b [{}]}}}}", "$p ".repeat(2_000));
    let params = read(&format!("{{:p [{}]}}", "1 ".repeat(2_000)));
    let refused = decode_form(&read(&many), Encoding::Edn, params.as_map().unwrap()).unwrap_err();
    assert_eq!(refused[0].code, "too-large");
}

#[test]
fn edn_reads_back_what_it_writes() {
    for (given, written) in [
        ("{:a 1 , \"b\" [nil true false] #{1 2} (a/b ?x &? $q -)}", None),
        (
            "[1N 123456789012345678901234567890 1.50M -0.5 1e3 ##Inf ##-Inf +7 -1E+5M]",
            Some("[1 123456789012345678901234567890N 1.50M -0.5 1000.0 ##Inf ##-Inf 7 -1E+5M]"),
        ),
        ("[\\a \\newline \\u0041 \\( \\space]", Some("[\\a \\newline \\A \\( \\space]")),
        ("\"a\\\"\\\\\\n\\u00e9\\uD83D\\uDE00\"", Some("\"a\\\"\\\\\\né😀\"")),
        ("#inst \"2024-08-20T09:00:00+08:00\"", None),
        ("#inst \"2024-08-20T01:00:00.25Z\"", Some("#inst \"2024-08-20T01:00:00.250Z\"")),
        (
            "#uuid \"F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6\"",
            Some("#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\""),
        ),
        ("{{:id 2} 1, [1] 2, () 3}", None),
    ] {
        let value = read(given);
        let again = edn::write(&value);
        assert_eq!(read(&again), value, "{again}");
        if let Some(written) = written {
            assert_eq!(again, written);
        }
    }
    let commented = edn::read("; note\n#_ {:a 1} #_ #_ 1 2 3", ReadLimits::REQUEST);
    assert_eq!(commented, Ok(Value::Int(3)));
}

#[test]
fn edn_refuses() {
    for bad in [
        "",
        "1 2",
        "{:a}",
        "{:a 1 :a 2}",
        "{[1] 1 (1) 2}",
        "#{1 1}",
        "(1",
        "]",
        "[1}",
        "01",
        "1/2",
        "0x1f",
        "1e999",
        ":",
        "::a",
        "a:",
        "\"x",
        "\"\\x\"",
        "\"\\ud800\"",
        "\\",
        "\\nope",
        "#foo 1",
        "#inst 3",
        "#inst \"yesterday\"",
        "#uuid \"x\"",
        "^a b",
        "@a",
        "a@b",
        "#_",
        "1.",
        "-01",
        "#",
        "##X",
        "{:a 1 #_ }",
        "1.5N",
        "\u{0}",
    ] {
        assert!(edn::read(bad, ReadLimits::REQUEST).is_err(), "{bad:?}");
    }
}

#[test]
fn json_reads_and_refuses() {
    let given = r#" {"a": [1, -2.5e3, "x\u00e9\ud83d\ude00\/", null, true], "b c": {}, "n": 9007199254740992} "#;
    let value = json::read(given, ReadLimits::REQUEST).unwrap();
    let written = r#"{"a":[1,-2500.0,"xé😀/",null,true],"b c":{},"n":9007199254740992}"#;
    assert_eq!(json::write(&value), written);
    assert_eq!(
        edn::write(&value),
        "{:a [1 -2500.0 \"xé😀/\" nil true], \"b c\" {}, :n 9007199254740992}"
    );
    let rich = read(
        "{:a #{1}, \"a\" 2.5M, a 1, {:k 1} :kw, :n 9007199254740993, :t #inst \"2024-08-20\"}",
    );
    assert_eq!(
        json::write(&rich),
        r#"{"a":[1],"\"a\"":"2.5","'a":1,"{:k 1}":"kw","n":"9007199254740993","t":"2024-08-20T00:00:00Z"}"#
    );
    for bad in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e999",
        "\"\n\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "nul",
        "[1 2]",
        "1 2",
        "{\"a\":1,\"a\":2}",
        "NaN",
        "\"",
        "-",
        "1e",
        "tru",
        "'a'",
        "\u{feff}1",
    ] {
        assert!(json::read(bad, ReadLimits::REQUEST).is_err(), "{bad:?}");
    }
}

/// Mutated texts: nothing panics, and what is read is written and read again as the same value.
#[test]
fn hostile_texts_never_panic() {
    let mut corpus: Vec<String> = vectors("pull")
        .iter()
        .flat_map(|v| {
            [text(v, "pattern").unwrap().to_string(), text(v, "data").unwrap().to_string()]
        })
        .collect();
    corpus.push(
        "{:a #inst \"2024-08-20T01:00:00.25Z\" \\u0041 ##NaN #{1N 2.5M} (x ; y\n #_ z)}".into(),
    );
    corpus
        .push(r#"{"a": {"$with": [{"g": "$n"}], "$get": ["?", -1.5e-3, "\ud83d\ude00"]}}"#.into());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (n as u64)).unwrap()
    };
    let pieces: Vec<char> =
        "(){}[]\"\\#_:?$&%;,^ nN1.0eE+-/M\n\u{0}é😀\u{2028}ƒa".chars().collect();
    let params = Map::new();
    for _ in 0..40_000 {
        let mut chars: Vec<char> = corpus[next(corpus.len())].chars().collect();
        for _ in 0..=next(4) {
            let at = next(chars.len() + 1);
            match next(3) {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 if at < chars.len() => chars[at] = pieces[next(pieces.len())],
                _ => chars.insert(at, pieces[next(pieces.len())]),
            }
        }
        let mutant: String = chars.into_iter().collect();
        if let Ok(value) = edn::read(&mutant, ReadLimits::REQUEST) {
            assert_eq!(read(&edn::write(&value)), value, "{mutant}");
            if let Ok(pattern) = decode_form(&value, Encoding::Edn, &params) {
                exercise(&pattern, &value);
            }
        }
        if let Ok(value) = json::read(&mutant, ReadLimits::REQUEST) {
            drop(json::read(&json::write(&value), ReadLimits::REQUEST).unwrap());
            if let Ok(pattern) = decode_form(&value, Encoding::Json, &params) {
                exercise(&pattern, &value);
            }
        }
    }
}

fn exercise(pattern: &Pattern, value: &Value) {
    let answer = evaluate(pattern, value, &Double);
    drop(write_answer(answer, None, Parts::All, Encoding::Json));
    drop(validate(pattern, &vectors_schema()));
}

/// Fenced blocks of the page on pull patterns: language and text.
fn page_blocks() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../../docs/pull.md");
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

#[test]
fn the_page_says_what_documents_answer() {
    let blocks = page_blocks();
    let document = blocks[0].1;
    let mut count = 0;
    for pair in blocks.windows(2) {
        let Some(pattern) = pair[0].1.strip_prefix("otus pull --data site.edn '") else { continue };
        let answer = pull_data(document, None, pattern.strip_suffix('\'').unwrap()).unwrap();
        let same = match pair[1].0 {
            "json" => answer == pair[1].1,
            _ => read(&answer) == read(pair[1].1),
        };
        assert!(same, "{answer}");
        count += 1;
    }
    assert_eq!(count, 4);
}
