import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/**
 * POST by java.net.http, with its defaults: over http:// it offers Upgrade: h2c. The proxy comes from -Dhttp.proxyHost and
 * -Dhttp.proxyPort; its user, from -Dproxy.user, is sent only once the proxy has asked with 407. Arguments: URL [ID].
 */
public class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newBuilder().proxy(ProxySelector.getDefault());
        var user = System.getProperty("proxy.user");
        if (user != null) {
            client.authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(user, "x".toCharArray());
                }
            });
        }
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).POST(BodyPublishers.ofString("{\"n\": 1}"));
        if (arguments.length > 1) {
            request.header("X-Integration-Id", arguments[1]);
        }
        var response = client.build().send(request.build(), BodyHandlers.ofString());
        System.out.println(response.body() + " " + response.statusCode());
    }
}
