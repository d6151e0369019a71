# curl, with its defaults.
base=$1 file=$2
shift 2
for case in "$@"; do
  case $case in
    get) printf 'get %s\n' "$(curl -sS "$base/small")" ;;
    post) printf 'post %s\n' "$(curl -sS --data 'a small body' "$base/small")" ;;
    download) printf 'download %s\n' "$(curl -sS "$base/large" | sha256sum | cut -d' ' -f1)" ;;
    upload) printf 'upload %s\n' "$(curl -sS --data-binary "@$file" "$base/large")" ;;
    events) curl -sS --no-buffer "$base/events" | sed -un 's/^data: /events /p' ;;
  esac
done
