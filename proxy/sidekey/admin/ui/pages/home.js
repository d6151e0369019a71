// /: the first page of each role.
import { useEffect } from "../vendor/preact.js";
import { go } from "../router.js";
import { may } from "../session.js";

export default function HomePage() {
  useEffect(() => {
    go(may("viewer") ? "/integrations" : "/send", { replace: true });
  }, []);
  return null;
}
