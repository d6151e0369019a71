import java.net.URL;
import javax.net.ssl.HttpsURLConnection;

/** GET by the JDK's older client. Arguments: HOST PORT. */
public class Get {
    public static void main(String[] arguments) throws Exception {
        var url = new URL("https://" + arguments[0] + ":" + arguments[1] + "/");
        System.out.println(((HttpsURLConnection) url.openConnection()).getResponseCode());
    }
}
