// pgjdbc: parameters, batches, fetch size, CopyManager, and DatabaseMetaData in full.

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.PrintStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.TimeZone;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGProperty;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

public class Client {
  interface Work {
    Object run() throws Exception;
  }

  static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();
  static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
  static final String SLOW =
      "SELECT sum((a * b) % 7) FROM generate_series(1, 40000) AS x(a), generate_series(1, 40000) AS y(b)";
  static Connection connection;

  static Connection connect(String... more) throws SQLException {
    Properties properties = new Properties();
    PGProperty.USER.set(properties, System.getenv("PGUSER"));
    PGProperty.PASSWORD.set(properties, System.getenv().getOrDefault("PGPASSWORD", ""));
    PGProperty.SSL_MODE.set(properties, System.getenv().getOrDefault("PGSSLMODE", "prefer"));
    for (int i = 0; i < more.length; i += 2) properties.setProperty(more[i], more[i + 1]);
    String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/";
    return DriverManager.getConnection(url + System.getenv("PGDATABASE"), properties);
  }

  // ---- printing

  static JsonElement shown(Object value) throws SQLException {
    if (value == null) return JsonNull.INSTANCE;
    if (value instanceof JsonElement e) return e;
    if (value instanceof Boolean b) return new JsonPrimitive(b);
    if (value instanceof BigDecimal || value instanceof Float || value instanceof Double) return tagged(value, value.toString());
    if (value instanceof Number n) return new JsonPrimitive(n);
    if (value instanceof String s) return new JsonPrimitive(s);
    if (value instanceof byte[] b) return tagged(value, HexFormat.of().formatHex(b));
    if (value instanceof Timestamp t) return tagged(value, t.toInstant().toString());
    if (value instanceof java.sql.Array a) return shown(a.getArray());
    if (value instanceof PGobject o) return tagged(value, o.getType() + " " + o.getValue());
    if (value instanceof Object[] list) return shown(Arrays.asList(list));
    if (value instanceof Collection<?> list) {
      JsonArray array = new JsonArray();
      for (Object each : list) array.add(shown(each));
      return array;
    }
    return tagged(value, value.toString());
  }

  static JsonObject tagged(Object value, String text) {
    JsonObject object = new JsonObject();
    object.addProperty(value.getClass().getSimpleName(), text);
    return object;
  }

  static void run(String name, Work work) {
    if (System.getenv("PROBE") != null && !name.equals(System.getenv("PROBE"))) return;
    JsonObject line = new JsonObject();
    line.addProperty("probe", name);
    try {
      Object found = work.run();
      if (found instanceof JsonObject table && table.has("rows")) {
        for (String key : table.keySet()) line.add(key, table.get(key));
      } else {
        line.add("value", shown(found));
      }
    } catch (Throwable failed) {
      JsonObject error = new JsonObject();
      String state = failed instanceof SQLException s ? s.getSQLState() : null;
      error.addProperty("sqlstate", state);
      if (state == null) error.addProperty("client", failed.getClass().getSimpleName());
      line.add("error", error);
      line.addProperty("words", String.valueOf(failed.getMessage()));
      try {
        if (!connection.getAutoCommit()) connection.rollback();
      } catch (SQLException ignored) {
        // The next probe says it.
      }
    }
    OUT.println(JSON.toJson(line));
  }

  static JsonObject table(ResultSet rows) throws SQLException {
    ResultSetMetaData about = rows.getMetaData();
    JsonObject table = new JsonObject();
    List<Object> names = new ArrayList<>(), types = new ArrayList<>(), all = new ArrayList<>();
    for (int i = 1; i <= about.getColumnCount(); i++) {
      names.add(about.getColumnLabel(i));
      types.add(about.getColumnTypeName(i) + " " + about.getColumnType(i) + " " + about.getPrecision(i) + "," + about.getScale(i));
    }
    while (rows.next()) {
      List<Object> row = new ArrayList<>();
      for (int i = 1; i <= about.getColumnCount(); i++) row.add(shown(rows.getObject(i)));
      all.add(row);
    }
    table.add("columns", shown(names));
    table.add("types", shown(types));
    table.add("rows", shown(all));
    return table;
  }

  static JsonObject ask(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      return table(rows);
    }
  }

  // ---- the statements of all clients

  static void set(PreparedStatement statement, int at, String kind, JsonElement value) throws SQLException {
    Object given = value.isJsonNull() ? null : read(kind, value);
    if (given == null) statement.setNull(at, Types.VARCHAR);
    else if (given instanceof Object[] list) statement.setArray(at, connection.createArrayOf(kind.replace("[]", ""), list));
    else statement.setObject(at, given);
  }

  static Object read(String kind, JsonElement value) throws SQLException {
    switch (kind) {
      case "bool": return value.getAsBoolean();
      case "int2": return value.getAsShort();
      case "int4": return value.getAsInt();
      case "int8": return value.getAsLong();
      case "float8": return value.getAsDouble();
      case "numeric": return new BigDecimal(value.getAsString());
      case "text": return value.getAsString();
      case "date": return LocalDate.parse(value.getAsString());
      case "timestamp": return LocalDateTime.parse(value.getAsString());
      case "timestamptz": return OffsetDateTime.parse(value.getAsString());
      case "uuid": return UUID.fromString(value.getAsString());
      case "bytea": return HexFormat.of().parseHex(value.getAsString());
      case "interval": return new org.postgresql.util.PGInterval(value.getAsString() + " seconds");
      case "jsonb": {
        PGobject object = new PGobject();
        object.setType("jsonb");
        object.setValue(value.toString());
        return object;
      }
      default: {
        List<Object> list = new ArrayList<>();
        for (JsonElement each : value.getAsJsonArray()) {
          list.add(each.isJsonNull() ? null : kind.equals("int8[]") ? (Object) each.getAsLong() : each.getAsString());
        }
        return list.toArray();
      }
    }
  }

  static JsonObject statement(JsonObject each) throws SQLException {
    String sql = each.get("sql").getAsString().replaceAll("\\$\\d+", "?");
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      if (each.has("params")) {
        int at = 1;
        for (JsonElement pair : each.getAsJsonArray("params")) {
          set(statement, at++, pair.getAsJsonArray().get(0).getAsString(), pair.getAsJsonArray().get(1));
        }
      }
      try (ResultSet rows = statement.executeQuery()) {
        return table(rows);
      }
    }
  }

  // ---- the catalogue

  static JsonObject listed(ResultSet rows) throws SQLException {
    JsonObject table = table(rows);
    table.remove("types");
    return table;
  }

  static Object names(ResultSet rows, String... columns) throws SQLException {
    List<List<Object>> found = new ArrayList<>();
    while (rows.next()) {
      List<Object> row = new ArrayList<>();
      for (String column : columns) row.add(rows.getObject(column));
      found.add(row);
    }
    return found;
  }

  static void catalogue() throws SQLException {
    DatabaseMetaData about = connection.getMetaData();
    run("product", () -> List.of(about.getDatabaseProductName(), about.getUserName(), about.supportsTransactions(), about.getDefaultTransactionIsolation()));
    run("getTables", () -> names(about.getTables(null, "public", "%", null), "TABLE_CAT", "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE", "REMARKS"));
    run("getTables of a type", () -> names(about.getTables(null, null, "k%", new String[] {"TABLE"}), "TABLE_SCHEM", "TABLE_NAME"));
    run("getTables of the system", () -> ((List<?>) names(about.getTables(null, "pg_catalog", "pg_class", null), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE")));
    for (String name : List.of("kinds", "wikipedia", "edits_hour")) {
      run("getColumns of " + name, () -> listed(about.getColumns(null, "public", name, null)));
      run("getPrimaryKeys of " + name, () -> listed(about.getPrimaryKeys(null, "public", name)));
      run("getIndexInfo of " + name, () -> listed(about.getIndexInfo(null, "public", name, false, true)));
      run("getImportedKeys of " + name, () -> listed(about.getImportedKeys(null, "public", name)));
      run("getExportedKeys of " + name, () -> listed(about.getExportedKeys(null, "public", name)));
      run("getBestRowIdentifier of " + name, () -> listed(about.getBestRowIdentifier(null, "public", name, DatabaseMetaData.bestRowSession, true)));
      run("getVersionColumns of " + name, () -> listed(about.getVersionColumns(null, "public", name)));
    }
    run("getCrossReference", () -> listed(about.getCrossReference(null, "public", "kinds", null, "public", "notes")));
    run("getSchemas", () -> names(about.getSchemas(null, "p%"), "TABLE_SCHEM", "TABLE_CATALOG"));
    run("getCatalogs", () -> { List<?> all = (List<?>) names(about.getCatalogs(), "TABLE_CAT"); return all.toString().contains("otus"); });
    run("getTableTypes", () -> names(about.getTableTypes(), "TABLE_TYPE"));
    run("getTypeInfo", () -> {
      List<Object> found = new ArrayList<>();
      ResultSet rows = about.getTypeInfo();
      Set<String> wanted = Set.of("bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "date", "timestamp", "timestamptz", "uuid", "jsonb", "bytea", "interval", "_text", "_int8");
      while (rows.next()) if (wanted.contains(rows.getString(1))) found.add(rows.getString(1) + " " + rows.getInt(2));
      Collections.sort((List<String>) (List<?>) found);
      return found;
    });
    run("getFunctions", () -> { ResultSet rows = about.getFunctions(null, null, "date_trunc"); int n = 0; while (rows.next()) n++; return n > 0; });
    run("getFunctionColumns", () -> { ResultSet rows = about.getFunctionColumns(null, null, "date_trunc", null); int n = 0; while (rows.next()) n++; return n > 0; });
    run("getProcedures", () -> names(about.getProcedures(null, "public", "%"), "PROCEDURE_NAME"));
    run("getTablePrivileges", () -> names(about.getTablePrivileges(null, "public", "kinds"), "TABLE_NAME", "GRANTEE", "PRIVILEGE"));
    run("getColumnPrivileges", () -> names(about.getColumnPrivileges(null, "public", "kinds", "n"), "COLUMN_NAME", "GRANTEE", "PRIVILEGE"));
    run("getUDTs", () -> names(about.getUDTs(null, "public", "%", null), "TYPE_NAME"));
    run("getSQLKeywords", () -> about.getSQLKeywords().contains("analyze"));
    run("getMaxNameLength", () -> about.getMaxTableNameLength());
    run("getClientInfoProperties", () -> listed(about.getClientInfoProperties()));
    run("getSchema", () -> connection.getSchema() + " " + connection.getCatalog());
    run("columns of a result", () -> {
      try (PreparedStatement statement = connection.prepareStatement("SELECT n, exact AS e, words, count(*) OVER () AS c FROM kinds")) {
        ResultSetMetaData columns = statement.getMetaData();
        List<Object> found = new ArrayList<>();
        for (int i = 1; i <= columns.getColumnCount(); i++) {
          found.add(List.of(columns.getColumnName(i), columns.getTableName(i), columns.getSchemaName(i), columns.isNullable(i), columns.isAutoIncrement(i), columns.isSigned(i), columns.getColumnClassName(i), columns.getColumnDisplaySize(i)));
        }
        return found;
      }
    });
    run("parameters of a statement", () -> {
      try (PreparedStatement statement = connection.prepareStatement("SELECT n FROM kinds WHERE id = ? AND at > ? AND document @> ? AND tags = ? LIMIT ?")) {
        ParameterMetaData parameters = statement.getParameterMetaData();
        List<Object> found = new ArrayList<>();
        for (int i = 1; i <= parameters.getParameterCount(); i++) found.add(parameters.getParameterTypeName(i));
        return found;
      }
    });
  }

  // ---- the rest

  static Object fetched(int size) throws SQLException {
    try (Connection other = connect()) {
      other.setAutoCommit(false);
      try (PreparedStatement statement = other.prepareStatement("SELECT n, n::text AS t FROM generate_series(1, 100000) AS g(n)")) {
        statement.setFetchSize(size);
        long total = 0;
        int count = 0;
        try (ResultSet rows = statement.executeQuery()) {
          while (rows.next()) {
            total += rows.getLong(1);
            count++;
          }
        }
        other.commit();
        return List.of(count, total);
      }
    }
  }

  static Object prepared() throws SQLException {
    List<Object> found = new ArrayList<>();
    try (PreparedStatement statement = connection.prepareStatement("SELECT n, words, at, exact, id, tags FROM kinds WHERE n <= ? ORDER BY n")) {
      for (int i = 1; i <= 7; i++) {
        statement.setLong(1, i % 5 + 1);
        try (ResultSet rows = statement.executeQuery()) {
          found.add(table(rows).get("rows"));
        }
      }
    }
    return found;
  }

  static String state(Work work) {
    try {
      return String.valueOf(work.run());
    } catch (SQLException failed) {
      return failed.getSQLState();
    } catch (Exception failed) {
      return failed.toString();
    }
  }

  static Object transactions() throws SQLException {
    List<Object> found = new ArrayList<>();
    try (Connection other = connect(); Statement statement = other.createStatement()) {
      other.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
      other.setReadOnly(true);
      other.setAutoCommit(false);
      found.add(ask(other, "SHOW transaction_isolation").get("rows"));
      Savepoint a = other.setSavepoint("a");
      found.add(state(() -> statement.executeQuery("SELECT nothing")));
      found.add(state(() -> statement.executeQuery("SELECT 1")));
      other.rollback(a);
      found.add(ask(other, "SELECT count(*) FROM kinds").get("rows"));
      Savepoint b = other.setSavepoint();
      other.releaseSavepoint(b);
      found.add(state(() -> statement.executeUpdate("INSERT INTO notes (at, client, n) VALUES (now(), 'jdbc', 0)")));
      other.rollback();
      found.add(other.isReadOnly());
      found.add(other.isValid(5));
    }
    return found;
  }

  static Object timedOut() throws Exception {
    try (Connection other = connect(); Statement statement = other.createStatement()) {
      statement.setQueryTimeout(1);
      return List.of(state(() -> statement.executeQuery(SLOW)), ask(other, "SELECT count(*) FROM kinds").get("rows"));
    }
  }

  static Object stopped() throws Exception {
    try (Connection other = connect(); Statement statement = other.createStatement()) {
      Thread stopping = new Thread(() -> {
        try {
          Thread.sleep(700);
          statement.cancel();
        } catch (Exception ignored) {
          // Then the statement runs to its end, which the probe tells.
        }
      });
      stopping.start();
      String found = state(() -> statement.executeQuery(SLOW));
      stopping.join();
      return found;
    }
  }

  static Object copied(String sql) throws Exception {
    StringWriter target = new StringWriter();
    long count = new CopyManager(connection.unwrap(org.postgresql.core.BaseConnection.class)).copyOut(sql, target);
    return List.of(count, target.toString());
  }

  static Object several() throws SQLException {
    List<Object> found = new ArrayList<>();
    try (Statement statement = connection.createStatement()) {
      boolean rows = statement.execute("SELECT 1::bigint AS a; SET TimeZone = 'UTC'; SELECT words FROM kinds ORDER BY n LIMIT 1");
      while (true) {
        if (rows) found.add(table(statement.getResultSet()).get("rows"));
        else if (statement.getUpdateCount() == -1) break;
        else found.add(statement.getUpdateCount());
        rows = statement.getMoreResults();
      }
    }
    return found;
  }

  static Object simple() throws SQLException {
    List<Object> found = new ArrayList<>();
    try (Connection other = connect("preferQueryMode", "simple");
        PreparedStatement statement = other.prepareStatement("SELECT n, at, day, flag, tags FROM kinds WHERE day >= ? AND flag = ? AND n = ANY(?) AND at > ? ORDER BY n")) {
      statement.setObject(1, LocalDate.of(1970, 1, 1));
      statement.setBoolean(2, true);
      statement.setArray(3, other.createArrayOf("int8", new Object[] {1L, 2L, 4L}));
      statement.setTimestamp(4, Timestamp.from(Instant.EPOCH));
      found.add(table(statement.executeQuery()).get("rows"));
    }
    return found;
  }

  static Object schemas() throws SQLException {
    try (Connection other = connect("currentSchema", "pg_catalog", "ApplicationName", "a client")) {
      List<Object> found = new ArrayList<>();
      found.add(other.getSchema());
      other.setSchema("public");
      found.add(other.getSchema());
      found.add(ask(other, "SHOW application_name").get("rows"));
      other.setClientInfo("ApplicationName", "another");
      found.add(ask(other, "SHOW application_name").get("rows"));
      return found;
    }
  }

  static Object inserted() throws Exception {
    List<Object> found = new ArrayList<>();
    try (Statement statement = connection.createStatement()) {
      statement.execute("SET otus.insert_wait = 'visible'");
    }
    try (PreparedStatement statement = connection.prepareStatement("INSERT INTO notes (at, client, n, words) VALUES (?, ?, ?, ?)")) {
      for (int n = 0; n < 3; n++) {
        statement.setObject(1, OffsetDateTime.parse("2024-01-02T00:00:00Z").plusSeconds(n));
        statement.setString(2, "jdbc");
        statement.setLong(3, n);
        statement.setString(4, n == 1 ? null : "inserted " + n);
        statement.addBatch();
      }
      for (int count : statement.executeBatch()) found.add(count);
    }
    found.add(new CopyManager(connection.unwrap(org.postgresql.core.BaseConnection.class)).copyIn("COPY notes (at, client, n, words) FROM STDIN WITH (FORMAT csv)", new StringReader("2024-01-03T00:00:00Z,jdbc,10,copied\n")));
    found.add(ask(connection, "SELECT at, n, words FROM notes WHERE client = 'jdbc' ORDER BY n").get("rows"));
    return found;
  }

  public static void main(String[] arguments) throws Exception {
    TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
    connection = connect();
    for (JsonElement each : JsonParser.parseString(Files.readString(Path.of(arguments[0]))).getAsJsonArray()) {
      run(each.getAsJsonObject().get("probe").getAsString(), () -> statement(each.getAsJsonObject()));
    }
    catalogue();
    run("prepared seven times", Client::prepared);
    run("fetch size", () -> fetched(1000));
    run("no fetch size", () -> fetched(0));
    run("transactions", Client::transactions);
    run("cancel", Client::stopped);
    run("query timeout", Client::timedOut);
    run("copy out", () -> copied("COPY (SELECT n, words, exact, at FROM kinds ORDER BY n) TO STDOUT WITH (FORMAT csv, HEADER)"));
    run("copy out as text", () -> copied("COPY (SELECT n, words, raw, tags FROM kinds ORDER BY n) TO STDOUT"));
    run("several statements", Client::several);
    run("simple query mode", Client::simple);
    run("typed values", () -> {
      try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery("SELECT at, day, plain, id, words, large FROM kinds WHERE n = 1")) {
        rows.next();
        return List.of(rows.getObject(1, OffsetDateTime.class).toString(), rows.getObject(2, LocalDate.class).toString(), rows.getObject(3, LocalDateTime.class).toString(), rows.getObject(4, UUID.class).toString(), rows.getString(5), rows.getLong(6));
      }
    });
    run("schemas and names", Client::schemas);
    run("maximum of rows", () -> { try (Statement statement = connection.createStatement()) { statement.setMaxRows(3); return table(statement.executeQuery("SELECT n FROM kinds ORDER BY n")).get("rows"); } });
    run("scrolled rows", () -> { try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) { ResultSet rows = statement.executeQuery("SELECT n FROM kinds ORDER BY n"); rows.last(); return rows.getRow(); } });
    run("escapes", () -> ask(connection, "SELECT {fn ucase('abc')} AS a, {d '2024-02-29'} AS b, {fn concat('a', 'b')} AS c"));
    run("warnings", () -> { try (Statement statement = connection.createStatement()) { statement.execute("ROLLBACK"); return statement.getWarnings().getSQLState(); } });
    run("insert", Client::inserted);
    connection.close();
  }
}
