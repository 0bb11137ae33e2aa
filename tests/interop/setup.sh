#!/usr/bin/env bash
# setup.sh DIR: installs the judges into DIR (venv/, jars/, env.sh); what is there already stays.
# Needs python3, a JDK 17 (javac) for the reference implementation, and a package index.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "$1"); mkdir -p "$dir"
python=${PYTHON:-python3}

# The stamp is written last: an interrupted installation starts again.
stamp=$(cat "$here/requirements.txt" "$here/setup.sh" | sha256sum | cut -c1-16)
if [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

rm -rf "$dir/venv" "$dir/jars"
"$python" -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"

# Iceberg Java 0.14.1 with its generic reader comes shaded in one PyPI package, Hadoop's client in another.
command -v javac >/dev/null || { echo "setup.sh: no javac; install a JDK 17" >&2; exit 1; }
mkdir -p "$dir/jars/data" "$dir/jars/hadoop" "$dir/jars/dl"; cd "$dir/jars"
"$dir/venv/bin/pip" download -q --disable-pip-version-check --no-deps -d dl sagemaker-feature-store-pyspark-3.3==1.1.3 pyspark==3.3.4
tar xzf dl/sagemaker*.tar.gz --strip-components=3 -C data --wildcards '*/deps/jars/sagemaker-feature-store-spark-sdk.jar'
echo "8c92da8d5e30454d65669e5ca65895c0eb189a5bb84a0a1107e4f5816b7c70de  data/sagemaker-feature-store-spark-sdk.jar" | sha256sum -c --quiet
for jar in hadoop-client-api hadoop-client-runtime zstd-jni snappy-java slf4j-api commons-logging; do
  tar xzf dl/pyspark-*.tar.gz --strip-components=3 -C hadoop --wildcards "*/deps/jars/$jar-[0-9]*.jar"
done
rm -rf dl
cat > "$dir/env.sh" <<X
export ICEBERG_JAVA_JAR=$dir/jars/data/sagemaker-feature-store-spark-sdk.jar
export HADOOP_JARS=$dir/jars/hadoop
X
echo "$stamp" > "$dir/stamp"
