import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandler;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;

/** java.net.http with its defaults. Arguments: BASE FILE CASE... */
public class Cases {
    private static final HttpClient CLIENT = HttpClient.newHttpClient();
    private static String base;

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        for (int i = 2; i < arguments.length; i++) {
            var name = arguments[i];
            switch (name) {
                case "get" -> print(name, get("/small", BodyHandlers.ofString()));
                case "post" -> print(name, post("/small", BodyPublishers.ofString("a small body")));
                case "download" -> {
                    var body = get("/large", BodyHandlers.ofByteArray());
                    print(name, HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body)));
                }
                case "upload" -> print(name, post("/large", BodyPublishers.ofFile(Path.of(arguments[1]))));
                case "events" -> get("/events", BodyHandlers.ofLines())
                    .filter(line -> line.startsWith("data: "))
                    .forEach(line -> print(name, line.substring(6)));
            }
        }
    }

    private static <T> T get(String path, BodyHandler<T> handler) throws Exception {
        return CLIENT.send(HttpRequest.newBuilder(URI.create(base + path)).build(), handler).body();
    }

    private static String post(String path, BodyPublisher body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(base + path)).POST(body).build();
        return CLIENT.send(request, BodyHandlers.ofString()).body();
    }

    private static void print(String name, String text) {
        System.out.println(name + " " + text);
    }
}
