# pip, as `pip` of the environment that PYTHON runs in.
base=$1
shift 2
folder=$(mktemp -d)
for case in "$@"; do
  case $case in
    get) printf 'get %s\n' "$("$PYTHON" -m pip index versions demo --index-url "$base/simple/" | head -1)" ;;
    download)
      "$PYTHON" -m pip download -q --no-deps --no-cache-dir --index-url "$base/simple/" --dest "$folder" demo >&2
      "$PYTHON" -m zipfile -e "$folder/demo-1-py3-none-any.whl" "$folder"
      printf 'download %s\n' "$(sha256sum <"$folder/large" | cut -d' ' -f1)" ;;
  esac
done
