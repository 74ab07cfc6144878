import com.baidubce.BceServiceException;
import com.baidubce.auth.DefaultBceCredentials;
import com.baidubce.services.bos.BosClient;
import com.baidubce.services.bos.BosClientConfiguration;
import com.baidubce.services.bos.model.*;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.*;

/** Makes calls of the vendor's Java SDK: one a line of the input, its words parted by tabs; one line each comes back. */
public class BosJudge {
    private static final String BUCKET = "photos";

    public static void main(String[] args) {
        BosClientConfiguration config = new BosClientConfiguration();
        config.setCredentials(new DefaultBceCredentials("ak", "sk"));
        config.setEndpoint(args[0]);
        BosClient bos = new BosClient(config);
        Scanner calls = new Scanner(System.in, StandardCharsets.UTF_8);
        while (calls.hasNextLine()) {
            System.out.println(answer(bos, calls.nextLine().split("\t", -1)));
        }
        System.exit(0); // the SDK leaves threads behind
    }

    private static String answer(BosClient bos, String[] call) {
        try {
            return made(bos, call[0], call[1], Arrays.copyOfRange(call, 2, call.length));
        } catch (BceServiceException refused) {
            return refused.getStatusCode() + " " + refused.getErrorCode();
        } catch (Exception failed) {
            return failed.toString().replace('\n', ' ');
        }
    }

    private static String made(BosClient bos, String verb, String key, String[] more) throws Exception {
        switch (verb) {
            case "put":
                ObjectMetadata meta = new ObjectMetadata();
                meta.addUserMetadata("mtime", more[1]);
                meta.setContentLength(bytes(more[0]).length);
                InputStream content = new ByteArrayInputStream(bytes(more[0]));
                return bos.putObject(new PutObjectRequest(BUCKET, key, content, meta)).getETag();
            case "get":
                try (InputStream found = bos.getObject(BUCKET, key).getObjectContent()) {
                    return new String(found.readAllBytes(), StandardCharsets.UTF_8);
                }
            case "head":
                ObjectMetadata told = bos.getObjectMetadata(BUCKET, key);
                return told.getContentLength() + " " + told.getETag() + " " + told.getUserMetadata().get("mtime");
            case "delete":
                bos.deleteObject(BUCKET, key);
                return "deleted";
            case "copy":
                return bos.copyObject(BUCKET, key, BUCKET, more[0]).getETag();
            case "list":
                List<String> keys = new ArrayList<>();
                bos.listObjects(BUCKET, key).getContents().forEach(each -> keys.add(each.getKey()));
                return String.join("|", keys);
            case "begin":
                return bos.initiateMultipartUpload(new InitiateMultipartUploadRequest(BUCKET, key)).getUploadId();
            case "part":
                byte[] body = bytes(more[2]);
                int number = Integer.parseInt(more[1]);
                InputStream part = new ByteArrayInputStream(body);
                UploadPartRequest request = new UploadPartRequest(BUCKET, key, more[0], number, body.length, part);
                return bos.uploadPart(request).getPartETag().getETag();
            case "complete":
                List<PartETag> parts = new ArrayList<>();
                bos.listParts(BUCKET, key, more[0]).getParts()
                    .forEach(each -> parts.add(new PartETag(each.getPartNumber(), each.getETag())));
                bos.completeMultipartUpload(new CompleteMultipartUploadRequest(BUCKET, key, more[0], parts));
                return "completed of " + parts.size();
            case "abort":
                bos.abortMultipartUpload(BUCKET, key, more[0]);
                return "aborted";
            default:
                return "no such call";
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
