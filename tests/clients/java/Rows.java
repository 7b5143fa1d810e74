// pgjdbc: counts the rows of one query, with a fetch size or with all of them in the driver.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;

public class Rows {
  public static void main(String[] arguments) throws Exception {
    int fetchSize = Integer.parseInt(arguments[0]);
    String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
    try (Connection connection = DriverManager.getConnection(url + "?sslmode=disable", System.getenv("PGUSER"), System.getenv("PGPASSWORD"));
        Statement statement = connection.createStatement()) {
      // Without a transaction the driver takes all rows at once, whatever the fetch size says.
      connection.setAutoCommit(fetchSize == 0);
      statement.setFetchSize(fetchSize);
      long rows = 0, sum = 0;
      try (ResultSet found = statement.executeQuery(arguments[1])) {
        while (found.next()) {
          rows++;
          sum += found.getLong(1);
        }
      }
      System.out.println("rows " + rows + " sum " + sum);
    }
  }
}
