// Opens a TLS connection to 127.0.0.1 at a port under a host's name, and prints why it does not trust the other end.
import java.net.Socket;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

public class Handshake {
  public static void main(String[] arguments) throws Exception {
    String host = arguments[1];
    var factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
    var connection = new Socket("127.0.0.1", Integer.parseInt(arguments[0]));
    try (var tls = (SSLSocket) factory.createSocket(connection, host, 443, true)) {
      var parameters = tls.getSSLParameters();
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      tls.setSSLParameters(parameters);
      tls.startHandshake();
      System.out.println("trusted");
    } catch (SSLHandshakeException error) {
      System.out.println(error.getMessage());
    }
  }
}
