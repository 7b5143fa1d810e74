// pgx: statements by the extended protocol in binary and by the simple one, batches, cursors, COPY, a pool.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const slow = "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)"

var background = context.Background()

type fields map[string]any

func put(name string, found fields) {
	line, err := json.Marshal(found)
	if err != nil {
		line, _ = json.Marshal(fields{"error": fields{"sqlstate": nil, "client": err.Error()}})
	}
	title, _ := json.Marshal(name)
	rest := strings.TrimPrefix(string(line), "{")
	fmt.Printf("{\"probe\":%s,%s\n", title, rest)
}

func state(err error) any {
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		return failed.Code
	}
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("%T", err)
}

func run(name string, work func() (any, error)) {
	if only, set := os.LookupEnv("PROBE"); set && only != name {
		return
	}
	found, err := work()
	if err != nil {
		var failed *pgconn.PgError
		if errors.As(err, &failed) {
			put(name, fields{"error": fields{"sqlstate": failed.Code}, "words": failed.Message})
		} else {
			put(name, fields{"error": fields{"sqlstate": nil, "client": fmt.Sprintf("%T", err)}, "words": err.Error()})
		}
		return
	}
	if table, ok := found.(fields); ok {
		put(name, table)
		return
	}
	put(name, fields{"value": shown(found)})
}

func shown(value any) any {
	switch v := value.(type) {
	case nil, bool, string, int, int16, int32, int64:
		return v
	case float32, float64:
		return fields{"float": fmt.Sprint(v)}
	case []byte:
		return fields{"bytes": hex.EncodeToString(v)}
	case time.Time:
		return fields{"time": v.UTC().Format(time.RFC3339Nano)}
	case [16]byte:
		return fields{"uuid": hex.EncodeToString(v[:])}
	case pgtype.Numeric:
		text, _ := v.Value()
		return fields{"numeric": text}
	case pgtype.Interval:
		return fields{"interval": fmt.Sprint(v.Months, " ", v.Days, " ", v.Microseconds)}
	case pgtype.Time:
		return fields{"clock": v.Microseconds}
	case []any:
		list := make([]any, len(v))
		for i, each := range v {
			list[i] = shown(each)
		}
		return list
	case map[string]any:
		return fields{"object": v}
	case netip.Prefix, *big.Int:
		return fields{"text": fmt.Sprint(v)}
	}
	return value
}

func table(rows pgx.Rows, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, types, all := []string{}, []uint32{}, []any{}
	for _, field := range rows.FieldDescriptions() {
		columns = append(columns, field.Name)
		types = append(types, field.DataTypeOID)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		all = append(all, shown(values))
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return fields{"columns": columns, "types": types, "rows": all}, nil
}

// The value of a parameter of statements.json as Go has it.
func given(kind string, value any) (any, error) {
	text, _ := value.(string)
	number, _ := value.(json.Number)
	switch {
	case value == nil:
		return nil, nil
	case kind == "int2" || kind == "int4" || kind == "int8":
		return number.Int64()
	case kind == "float8":
		return number.Float64()
	case kind == "numeric":
		var numeric pgtype.Numeric
		return &numeric, numeric.Scan(text)
	case kind == "date":
		return time.Parse(time.DateOnly, text)
	case kind == "timestamp":
		return time.Parse("2006-01-02T15:04:05.999999", text)
	case kind == "timestamptz":
		return time.Parse(time.RFC3339Nano, text)
	case kind == "uuid":
		var id pgtype.UUID
		return &id, id.Scan(text)
	case kind == "bytea":
		return hex.DecodeString(text)
	case kind == "interval":
		seconds, err := number.Int64()
		return pgtype.Interval{Microseconds: seconds * 1_000_000, Valid: true}, err
	case kind == "text[]":
		list := []*string{}
		for _, each := range value.([]any) {
			if part, ok := each.(string); ok {
				list = append(list, &part)
			} else {
				list = append(list, nil)
			}
		}
		return list, nil
	case kind == "int8[]":
		list := []*int64{}
		for _, each := range value.([]any) {
			if part, ok := each.(json.Number); ok {
				whole, err := part.Int64()
				if err != nil {
					return nil, err
				}
				list = append(list, &whole)
			} else {
				list = append(list, nil)
			}
		}
		return list, nil
	}
	if kind == "jsonb" {
		document, err := json.Marshal(value)
		return string(document), err
	}
	return value, nil
}

type statement struct {
	Probe  string
	Sql    string
	Params [][2]any
}

func (each statement) given() ([]any, error) {
	values := []any{}
	for _, pair := range each.Params {
		value, err := given(pair[0].(string), pair[1])
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

func connect(options string) (*pgx.Conn, error) {
	return pgx.Connect(background, options)
}

func main() {
	file, err := os.Open(os.Args[1])
	check(err)
	decoder := json.NewDecoder(file)
	decoder.UseNumber()
	var statements []statement
	check(decoder.Decode(&statements))
	connection, err := connect("")
	check(err)
	for _, each := range statements {
		run(each.Probe, func() (any, error) {
			values, err := each.given()
			if err != nil {
				return nil, err
			}
			return table(connection.Query(background, each.Sql, values...))
		})
		run(each.Probe+", simple", func() (any, error) {
			values, err := each.given()
			if err != nil {
				return nil, err
			}
			return table(connection.Query(background, each.Sql, append([]any{pgx.QueryExecModeSimpleProtocol}, values...)...))
		})
	}
	more(connection)
	check(connection.Close(background))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func more(connection *pgx.Conn) {
	run("prepared seven times", func() (any, error) {
		found := []any{}
		_, err := connection.Prepare(background, "edits", "SELECT count(*) FROM wikipedia WHERE added > $1 AND channel = $2")
		for n := 0; n < 7 && err == nil; n++ {
			var count int64
			err = connection.QueryRow(background, "edits", n, "#en.wikipedia").Scan(&count)
			found = append(found, count)
		}
		return found, err
	})
	run("execution modes", func() (any, error) {
		found := []any{}
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec} {
			var words string
			if err := connection.QueryRow(background, "SELECT words FROM kinds WHERE n = $1 AND at > $2", mode, int64(2), time.Unix(0, 0)).Scan(&words); err != nil {
				return nil, err
			}
			found = append(found, words)
		}
		return found, nil
	})
	run("batch", func() (any, error) {
		batch := &pgx.Batch{}
		for n := 1; n <= 5; n++ {
			batch.Queue("SELECT words FROM kinds WHERE n = $1", n)
		}
		batch.Queue("SELECT count(*) FROM wikipedia")
		results := connection.SendBatch(background, batch)
		defer results.Close()
		found := []any{}
		for range 6 {
			each, err := table(results.Query())
			if err != nil {
				return nil, err
			}
			found = append(found, each.(fields)["rows"])
		}
		return found, nil
	})
	run("batch with an error", func() (any, error) {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1::bigint")
		batch.Queue("SELECT 1 / (n - n) FROM kinds")
		batch.Queue("SELECT 2::bigint")
		err := connection.SendBatch(background, batch).Close()
		var after int64
		return []any{state(err), connection.QueryRow(background, "SELECT count(*) FROM kinds").Scan(&after) == nil, after}, nil
	})
	run("transactions within each other", transactions)
	run("cursor", func() (any, error) {
		tx, err := connection.Begin(background)
		if err != nil {
			return nil, err
		}
		defer tx.Rollback(background)
		if _, err := tx.Exec(background, "DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 1000) AS g(n)"); err != nil {
			return nil, err
		}
		total := 0
		for range 4 {
			rows, err := table(tx.Query(background, "FETCH FORWARD 300 FROM c"))
			if err != nil {
				return nil, err
			}
			total += len(rows.(fields)["rows"].([]any))
		}
		return total, nil
	})
	run("100,000 rows", func() (any, error) {
		rows, err := connection.Query(background, "SELECT n::bigint AS n, n::text AS t FROM generate_series(1, 100000) AS g(n)")
		if err != nil {
			return nil, err
		}
		var n, total, count int64
		var text string
		_, err = pgx.ForEachRow(rows, []any{&n, &text}, func() error { total += n; count++; return nil })
		return []any{count, total}, err
	})
	run("pool", func() (any, error) {
		pool, err := pgxpool.New(background, "pool_max_conns=3")
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		found := []any{}
		for n := 1; n <= 5; n++ {
			var words *string
			if err := pool.QueryRow(background, "SELECT words FROM kinds WHERE n = $1", n).Scan(&words); err != nil {
				return nil, err
			}
			found = append(found, words)
		}
		return found, pool.Ping(background)
	})
	run("cancel", func() (any, error) {
		other, err := connect("")
		if err != nil {
			return nil, err
		}
		defer other.Close(background)
		done := make(chan error, 1)
		go func() {
			_, err := other.Exec(background, slow)
			done <- err
		}()
		time.Sleep(500 * time.Millisecond)
		if err := other.PgConn().CancelRequest(background); err != nil {
			return nil, err
		}
		return state(<-done), nil
	})
	run("statement timeout", func() (any, error) {
		other, err := connect("statement_timeout=300 application_name=timed")
		if err != nil {
			return nil, err
		}
		defer other.Close(background)
		_, err = other.Exec(background, slow)
		return []any{state(err), other.PgConn().ParameterStatus("application_name")}, nil
	})
	run("copy out", func() (any, error) {
		target := &bytes.Buffer{}
		tag, err := connection.PgConn().CopyTo(background, target, "COPY (SELECT n, words, exact FROM kinds ORDER BY n) TO STDOUT (FORMAT csv, HEADER)")
		return []any{tag.String(), target.String()}, err
	})
	run("types of the catalogue", func() (any, error) {
		found := []any{}
		for _, name := range []string{"uuid", "public.notes"} {
			loaded, err := connection.LoadType(background, name)
			if err != nil {
				return nil, err
			}
			found = append(found, loaded.Name)
		}
		sort.Slice(found, func(i, j int) bool { return fmt.Sprint(found[i]) < fmt.Sprint(found[j]) })
		return found, nil
	})
	run("several statements", func() (any, error) {
		reader := connection.PgConn().Exec(background, "SELECT 1::bigint; SELECT words FROM kinds ORDER BY n LIMIT 1; SET TimeZone = 'UTC'")
		found := []any{}
		results, err := reader.ReadAll()
		for _, each := range results {
			found = append(found, []any{each.CommandTag.String(), len(each.Rows)})
		}
		return found, err
	})
	run("described", func() (any, error) {
		described, err := connection.PgConn().Prepare(background, "d", "SELECT n FROM kinds WHERE id = $1 AND at > $2 AND document @> $3 AND tags = $4 AND wide < $5 LIMIT $6", nil)
		if err != nil {
			return nil, err
		}
		oids := []any{}
		for _, oid := range described.ParamOIDs {
			oids = append(oids, int64(oid))
		}
		return oids, nil
	})
	run("copy in", func() (any, error) {
		// So that what was written can be read at once; PostgreSQL has no such setting, and takes any with a dot.
		if _, err := connection.Exec(background, "SET otus.insert_wait = 'visible'"); err != nil {
			return nil, err
		}
		rows := [][]any{}
		for n := range 3 {
			rows = append(rows, []any{time.Unix(1704067200+int64(n), 0), "pgx", n, fmt.Sprint("copied ", n)})
		}
		return connection.CopyFrom(background, pgx.Identifier{"notes"}, []string{"at", "client", "n", "words"}, pgx.CopyFromRows(rows))
	})
	run("insert", func() (any, error) {
		tag, err := connection.Exec(background, "INSERT INTO notes (at, client, n, words) VALUES ($1, $2, $3, $4)", time.Unix(1704067200, 0), "pgx", 10, nil)
		return tag.String(), err
	})
	run("rows that were written", func() (any, error) {
		return table(connection.Query(background, "SELECT at, n, words FROM notes WHERE client = 'pgx' ORDER BY n"))
	})
}

func transactions() (any, error) {
	other, err := connect("")
	if err != nil {
		return nil, err
	}
	defer other.Close(background)
	tx, err := other.BeginTx(background, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	found := []any{}
	var level string
	if err := tx.QueryRow(background, "SHOW transaction_isolation").Scan(&level); err != nil {
		return nil, err
	}
	found = append(found, level)
	inner, err := tx.Begin(background)
	if err != nil {
		return nil, err
	}
	_, failed := inner.Exec(background, "SELECT nothing")
	found = append(found, state(failed), state(inner.Rollback(background)))
	var count int64
	if err := tx.QueryRow(background, "SELECT count(*) FROM kinds").Scan(&count); err != nil {
		return nil, err
	}
	_, refused := tx.Exec(background, "INSERT INTO notes (at, client, n) VALUES (now(), 'pgx', 0)")
	return append(found, count, state(refused), state(tx.Rollback(background))), nil
}
